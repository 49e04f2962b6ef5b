/* A low-rank product beside a frozen linear layer, forward and backward.
 *
 * Why:     the inner size is eight or so, which leaves a matrix library nothing to work on: its
 *          time goes into calls and passes. Here one call does all of a direction.
 * Shapes:  `in` and `out` are multiples of 32; any rank.
 */

#include "kernels.h"

/* out[t][k] = sum_i x[t][i] w[k][i] for T tokens and R ranks at once. */
#define DOT(T, R)                                                                                \
    do {                                                                                         \
        __m512 sums[T][R];                                                                       \
        for (int a = 0; a < T; a++)                                                              \
            for (int b = 0; b < R; b++) sums[a][b] = _mm512_setzero_ps();                        \
        for (long i = 0; i < width; i += 32)                                                     \
            for (int a = 0; a < T; a++) {                                                        \
                __m512bh row = pairs(x + (t + a) * width + i);                                   \
                for (int b = 0; b < R; b++)                                                      \
                    sums[a][b] = _mm512_dpbf16_ps(sums[a][b], row, pairs(w + (k + b) * width + i)); \
            }                                                                                    \
        for (int a = 0; a < T; a++)                                                              \
            for (int b = 0; b < R; b++)                                                          \
                out[(t + a) * rank + k + b] = _mm512_reduce_add_ps(sums[a][b]);                  \
    } while (0)

static void dot(const bf16 *x, const bf16 *w, float *out, long rows, long width, long rank) {
#pragma omp for schedule(static)
    for (long block = 0; block < (rows + 3) / 4; block++) {
        long t = block * 4, k = 0;
        if (t + 4 <= rows) {
            for (; k + 4 <= rank; k += 4) DOT(4, 4);
            for (; k < rank; k++) DOT(4, 1);
        } else {
            for (; t < rows; t++)
                for (k = 0; k < rank; k++) DOT(1, 1);
        }
    }
}

/* y[t][i] += bias[i] + scale * sum_k c[t][k] w[k][i]; without a bias where it is NULL */
static void add_product(bf16 *y, const bf16 *bias, const float *c, const float *w, float scale,
                        long rows, long width, long rank) {
#pragma omp for schedule(static)
    for (long block = 0; block < (rows + 3) / 4; block++) {
        long t = block * 4, n = rows - t < 4 ? rows - t : 4;
        for (long i = 0; i < width; i += 32) {
            __m512 sums[4][2];
            for (int a = 0; a < 4; a++) sums[a][0] = sums[a][1] = _mm512_setzero_ps();
            for (long k = 0; k < rank; k++) {
                __m512 left = _mm512_loadu_ps(w + k * width + i);
                __m512 right = _mm512_loadu_ps(w + k * width + i + 16);
                for (int a = 0; a < 4; a++) {
                    __m512 factor = _mm512_set1_ps(c[(t + (a < n ? a : 0)) * rank + k]);
                    sums[a][0] = _mm512_fmadd_ps(factor, left, sums[a][0]);
                    sums[a][1] = _mm512_fmadd_ps(factor, right, sums[a][1]);
                }
            }
            for (int half = 0; half < 2; half++) {
                __m512 more = bias ? load(bias + i + 16 * half) : _mm512_setzero_ps();
                for (int a = 0; a < n; a++) {
                    bf16 *place = y + (t + a) * width + i + 16 * half;
                    __m512 base = _mm512_add_ps(load(place), more);
                    store(place, _mm512_fmadd_ps(sums[a][half], _mm512_set1_ps(scale), base));
                }
            }
        }
    }
}

/* out[k][i] = scale * sum_t c[t][k] x[t][i]; every thread has columns of its own. */
static void outer(const bf16 *x, const float *c, float *out, float scale, long rows, long width,
                  long rank) {
#pragma omp for schedule(static)
    for (long i = 0; i < width; i += 32)
        for (long k0 = 0; k0 < rank; k0 += 8) {
            long n = rank - k0 < 8 ? rank - k0 : 8;
            __m512 sums[8][2];
            for (int b = 0; b < 8; b++) sums[b][0] = sums[b][1] = _mm512_setzero_ps();
            for (long t = 0; t < rows; t++) {
                __m512 left = load(x + t * width + i), right = load(x + t * width + i + 16);
                for (int b = 0; b < 8; b++) {
                    __m512 factor = _mm512_set1_ps(c[t * rank + k0 + (b < n ? b : 0)]);
                    sums[b][0] = _mm512_fmadd_ps(factor, left, sums[b][0]);
                    sums[b][1] = _mm512_fmadd_ps(factor, right, sums[b][1]);
                }
            }
            for (int b = 0; b < n; b++)
                for (int half = 0; half < 2; half++)
                    _mm512_storeu_ps(out + (k0 + b) * width + i + 16 * half,
                                     _mm512_mul_ps(sums[b][half], _mm512_set1_ps(scale)));
        }
}

/* to[i] = from[i]; count is a multiple of 16 */
static void to_bf16(const float *from, bf16 *to, long count) {
#pragma omp for schedule(static)
    for (long i = 0; i < count / 16; i++) store(to + 16 * i, _mm512_loadu_ps(from + 16 * i));
}

/* h = x A^T;  y += bias + scale h B^T.
 *
 * x [rows, in], A [rank, in], B [out, rank], bias [out] or NULL, y [rows, out]. A matrix library
 * adds a bias in a pass of its own over y; here it is added on the way. */
void lowrank_forward(const bf16 *x, const float *A, const float *B, const bf16 *bias, bf16 *y,
                     float *h, float scale, long rows, long in, long out, long rank) {
    bf16 *low_A = scratch(2 * rank * in);
    float *turned = scratch(4 * rank * out);
#pragma omp parallel
    {
        to_bf16(A, low_A, rank * in);
#pragma omp for schedule(static)
        for (long i = 0; i < out; i++)
            for (long k = 0; k < rank; k++) turned[k * out + i] = B[i * rank + k];
        dot(x, low_A, h, rows, in, rank);
        add_product(y, bias, h, turned, scale, rows, out, rank);
    }
    free(low_A);
    free(turned);
}

/* g = grad B;  grad_A = scale g^T x;  grad_B^T = scale h^T grad;  grad_x += scale g A. */
void lowrank_backward(const bf16 *grad, const bf16 *x, const float *A, const float *B,
                      const float *h, bf16 *grad_x, float *grad_A, float *grad_Bt, float scale,
                      long rows, long in, long out, long rank) {
    bf16 *low_B = scratch(2 * rank * out), *turned = scratch(2 * rank * out);
    float *g = scratch(4 * rows * rank);
#pragma omp parallel
    {
        to_bf16(B, low_B, rank * out);
#pragma omp for schedule(static)
        for (long i = 0; i < out; i++)
            for (long k = 0; k < rank; k++) turned[k * out + i] = low_B[i * rank + k];
        dot(grad, turned, g, rows, out, rank);
        outer(grad, h, grad_Bt, scale, rows, out, rank);
        outer(x, g, grad_A, scale, rows, in, rank);
        if (grad_x) add_product(grad_x, NULL, g, A, scale, rows, in, rank);
    }
    free(low_B);
    free(turned);
    free(g);
}
