"""Tell the topic of a documentation snippet: data and training of the sample model."""
