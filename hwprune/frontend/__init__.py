"""Models, weights and data sets as people have them."""
