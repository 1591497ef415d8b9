"""FACTS: all that is known of each data set before it is read. The 10 classes are the same for all."""

from typing import NamedTuple


class Facts(NamedTuple):
    """Of one data set; a synthetic one has no files."""

    inputs: int
    samples: int  # to train on
    mean: tuple = ()  # of the training images' values in [0, 1], per channel
    deviation: tuple = ()  # likewise, the standard deviation
    files: dict = {}  # {name: (SHA-256, bytes)} of the uncompressed files, those to train on first
    folders: tuple = ()  # where to look in each folder that is searched
    urls: tuple = ()  # of folders, the first that answers serves
    archive: str = ""  # the file that holds all of them, where they are not published one by one
    members: str = ""  # the folder inside it


FACTS = {
    "mnist": Facts(
        inputs=784,
        samples=60_000,
        mean=(0.1307,),
        deviation=(0.3081,),
        files={
            "train-images-idx3-ubyte":
                ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
            "train-labels-idx1-ubyte":
                ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
            "t10k-images-idx3-ubyte":
                ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
            "t10k-labels-idx1-ubyte":
                ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
        },
        folders=("", "mnist", "MNIST/raw"),
        urls=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "cifar10": Facts(
        inputs=3072,
        samples=50_000,
        mean=(0.49139968, 0.48215842, 0.4465309),
        deviation=(0.24703223, 0.24348512, 0.26158783),
        files={
            "data_batch_1.bin":
                ("cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", 30_730_000),
            "data_batch_2.bin":
                ("a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", 30_730_000),
            "data_batch_3.bin":
                ("bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", 30_730_000),
            "data_batch_4.bin":
                ("014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", 30_730_000),
            "data_batch_5.bin":
                ("755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", 30_730_000),
            "test_batch.bin":
                ("8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", 30_730_000),
        },
        folders=("", "cifar10", "cifar-10-batches-bin"),
        urls=("https://www.cs.toronto.edu/~kriz/",),
        archive="cifar-10-binary.tar.gz",
        members="cifar-10-batches-bin",
    ),
    "synthetic-mnist": Facts(inputs=784, samples=10_000),
    "synthetic-cifar10": Facts(inputs=3072, samples=10_000),
}
