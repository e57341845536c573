"""Precision search: try plans for real, emitted and run in their runtime, and keep the best.

It stands above the stages because a trial needs them all: quantize decides, convert emits, a runtime runs.
"""
