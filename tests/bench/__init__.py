"""What Shoal promises, measured: `make bench`. Timings are shown here and asserted nowhere."""
