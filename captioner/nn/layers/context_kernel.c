/* Contexts of rows that each have a grid of their own, and the gradient of their weights: see context_kernel.py, which
   compiles and calls this file.

   z_n = sum_p w_np a_bp,   dw_np = dz_n a_bp,   b = images[n]

   a: (B, P, D); w: (N, P); z: (N, D). Every value is computed by one thread and in one order. */

#include <stdint.h>

#define TOGETHER 4 /* regions, so that a context is read and written once for all of them */

#define KERNELS(REAL, NAME)                                                                                           \
    void NAME##_contexts(const REAL *grid, const REAL *weights, const int64_t *images, REAL *contexts, int64_t rows,  \
                         int64_t regions, int64_t dim, int threads) {                                                 \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                             \
        for (int64_t row = 0; row < rows; row++) {                                                                    \
            const REAL *a = grid + images[row] * regions * dim, *w = weights + row * regions;                         \
            REAL *restrict z = contexts + row * dim;                                                                  \
            int64_t region = 0;                                                                                       \
            for (int64_t d = 0; d < dim; d++) z[d] = 0;                                                               \
            for (; region + TOGETHER <= regions; region += TOGETHER, a += TOGETHER * dim, w += TOGETHER)              \
                for (int64_t d = 0; d < dim; d++)                                                                     \
                    z[d] += w[0] * a[d] + w[1] * a[d + dim] + w[2] * a[d + 2 * dim] + w[3] * a[d + 3 * dim];          \
            for (; region < regions; region++, a += dim, w++)                                                         \
                for (int64_t d = 0; d < dim; d++) z[d] += w[0] * a[d];                                                \
        }                                                                                                             \
    }                                                                                                                 \
                                                                                                                      \
    void NAME##_weight_gradients(const REAL *grid, const REAL *gradient, const int64_t *images, REAL *weights,        \
                                 int64_t rows, int64_t regions, int64_t dim, int threads) {                           \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                             \
        for (int64_t row = 0; row < rows; row++) {                                                                    \
            const REAL *a = grid + images[row] * regions * dim, *dz = gradient + row * dim;                           \
            for (int64_t region = 0; region < regions; region++, a += dim) {                                          \
                REAL sum = 0;                                                                                         \
                for (int64_t d = 0; d < dim; d++) sum += a[d] * dz[d];                                                \
                weights[row * regions + region] = sum;                                                                \
            }                                                                                                         \
        }                                                                                                             \
    }

KERNELS(float, float32)
KERNELS(double, float64)
