"""What channels cost in milliseconds: micro-benchmarks of a model's op shapes in the runtimes of its targets."""
