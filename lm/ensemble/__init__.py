"""Many small models trained at once, stacked along a model axis."""
