"""Hand-made inline SVG, one module per picture. Colours come from the page's CSS classes."""
