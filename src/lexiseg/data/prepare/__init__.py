"""Conversions that bring a data set into the layout that its reader expects, one file each."""
