"""What the paper ran: `python -m experiments NAME` trains what is missing and draws the figure NAME."""
