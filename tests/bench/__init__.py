"""What our delivery costs beside loops written by hand: ratios measured in one run on one machine."""
