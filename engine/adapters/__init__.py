"""Back ends and stores that speak other interfaces than the compiled op tables."""
