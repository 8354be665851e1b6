"""What a run is: typed functions that train, tune, judge and tabulate, with no command line in them."""
