"""Learning curves: what each method makes of 50 labelled rows, of 100, and so on."""
