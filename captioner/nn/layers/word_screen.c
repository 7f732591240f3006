/* The word with the highest logit of one row, from a vocabulary matrix in 8 bits and a few rows of it as they are: see
   word_screen.py, which compiles and calls this file and has the equations.

   codes: q, (V, H); steps: s, (V); lengths: s |q|, (V); errors: |e| and what rounding adds, (V); weight: (V, H);
   bias: (V); hidden: (H); forbidden: ids of words that may not be found; integers (H), logits (V): for the
   function's own use. finest: the largest integer of hidden, so small that no sum of products leaves 32 bits.

   Returns the word, the first among equals; -1 where no allowed word has a logit above minus infinity; -2 where hidden
   is not finite. */

#include <float.h>
#include <math.h>
#include <stdint.h>

#define ROUNDING 1e-6 /* relative: of the few operations in 32 bits of an approximate logit, 2^-24 each */

int64_t most_probable_word(const int8_t *codes, const float *steps, const float *lengths, const float *errors,
                           const float *weight, const float *bias, const float *hidden, const int64_t *forbidden,
                           int16_t *integers, float *logits, int64_t words, int64_t dim, int64_t forbidden_count,
                           int64_t finest, int threads) {
    float largest = 0;
    double squares = 0, rest_squares = 0;
    for (int64_t a = 0; a < dim; a++) {
        largest = fmaxf(largest, fabsf(hidden[a]));
        squares += (double)hidden[a] * hidden[a];
    }
    if (!(squares < INFINITY)) return -2;
    const float step = largest > finest * FLT_MIN ? largest / finest : 1;
    for (int64_t a = 0; a < dim; a++) {
        float nearest = rintf(hidden[a] / step);
        nearest = nearest > finest ? finest : nearest < -finest ? -finest : nearest;
        const double rest = hidden[a] - (double)step * nearest;
        integers[a] = (int16_t)nearest;
        rest_squares += rest * rest;
    }
    const float length = (float)(sqrt(squares) * (1 + ROUNDING)), rest = (float)(sqrt(rest_squares) * (1 + ROUNDING));

    _Pragma("omp parallel for num_threads(threads) schedule(static)")
    for (int64_t word = 0; word < words; word++) {
        const int8_t *restrict row = codes + word * dim;
        int32_t sum = 0;
        for (int64_t a = 0; a < dim; a++) sum += (int32_t)row[a] * integers[a];
        logits[word] = bias[word] + step * steps[word] * (float)sum;
    }

    for (int64_t place = 0; place < forbidden_count; place++) logits[forbidden[place]] = -INFINITY;
    float least = -INFINITY; /* that the highest logit can be */
    for (int64_t word = 0; word < words; word++) {
        const float margin = errors[word] * length + lengths[word] * rest + (float)ROUNDING * fabsf(bias[word]);
        const float lowest = logits[word] - margin;
        least = lowest > least ? lowest : least;
    }
    int64_t best = -1;
    float highest = -INFINITY;
    for (int64_t word = 0; word < words; word++) {
        const float margin = errors[word] * length + lengths[word] * rest + (float)ROUNDING * fabsf(bias[word]);
        if (logits[word] == -INFINITY || logits[word] + margin < least) continue;
        const float *restrict row = weight + word * dim;
        double sum = bias[word];
        for (int64_t a = 0; a < dim; a++) sum += (double)row[a] * hidden[a];
        const float logit = (float)sum; /* rounded, so that equal rows have equal logits in any order of additions */
        if (best < 0 || logit > highest) best = word, highest = logit;
    }
    return best;
}
