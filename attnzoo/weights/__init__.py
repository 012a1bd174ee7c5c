"""Weights: find them, check them, translate them, save them. Knows modules and tensors, not plugins.

``dialects``  other libraries' names and shapes for a block's tensors, both ways
``store``     self-describing safetensors files
``catalogue`` registry files: what pretrained weights are known, and where
"""
