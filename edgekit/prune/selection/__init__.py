"""What to cut: costs, limits, the greedy choice of units, and the search for the amount."""
