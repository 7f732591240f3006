"""Networks: what they compute, and nothing about data, search or training.

The legend of shapes, used in every docstring and annotation of the package:

    B  images                 T  time steps (words)      V  vocabulary size
    N  captions in a batch    E  word embedding          H  hidden state
    K  beams                  D  feature channels        P  grid cells
    R  captions an image      A  attention               L  layers

Decoding works on rows: N = B·K rows, the K rows of one image side by side.
"""
