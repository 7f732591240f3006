"""Networks: encoders, decoders and their parts. Data, search and training are not imported here.

Dimensions, in every docstring and annotation of this package:

    B  images                    T  time steps (tokens)      V  vocabulary size
    N  captions or rows          E  word embedding           H  hidden state
    K  beams                     D  feature channels         P  regions of the grid
    R  captions per image        A  attention                L  layers
    M  tokens of all captions

Decoding works on rows: N = B·K rows, the K rows of one image adjacent.
"""
