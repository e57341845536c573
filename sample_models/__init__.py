"""Sample models: small trained networks with the data and the script that made each of them."""
