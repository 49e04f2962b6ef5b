/* Normalisation by the root of the mean square: y = w x s, s = 1 / sqrt(mean(x^2) + eps).
 *
 * Gradient: grad_x = s (w grad) - x s^3 mean(w grad x), the mean over the row.
 */

#include "kernels.h"

void rms_norm_forward(const bf16 *x, const bf16 *w, bf16 *y, float *scales, float eps, long rows,
                      long width) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *in = x + row * width;
        __m512 sum = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16) {
            __m512 v = load(in + i);
            sum = _mm512_fmadd_ps(v, v, sum);
        }
        float s = 1.0f / sqrtf(_mm512_reduce_add_ps(sum) / (float)width + eps);
        scales[row] = s;
        __m512 scale = _mm512_set1_ps(s);
        for (long i = 0; i < width; i += 16)
            store(y + row * width + i,
                  _mm512_mul_ps(load(w + i), _mm512_mul_ps(load(in + i), scale)));
    }
}

void rms_norm_backward(const bf16 *grad, const bf16 *x, const bf16 *w, const float *scales,
                       bf16 *grad_x, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *in = x + row * width, *g = grad + row * width;
        __m512 sum = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16)
            sum = _mm512_fmadd_ps(_mm512_mul_ps(load(w + i), load(g + i)), load(in + i), sum);
        float s = scales[row];
        __m512 scale = _mm512_set1_ps(s);
        __m512 along = _mm512_set1_ps(s * s * s * _mm512_reduce_add_ps(sum) / (float)width);
        for (long i = 0; i < width; i += 16) {
            __m512 direct = _mm512_mul_ps(_mm512_mul_ps(load(w + i), load(g + i)), scale);
            store(grad_x + row * width + i, _mm512_fnmadd_ps(load(in + i), along, direct));
        }
    }
}
