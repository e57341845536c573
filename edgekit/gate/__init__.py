"""The gate: what of a finished build must not pass, alone and against a baseline. Pure: reports in, findings out."""
