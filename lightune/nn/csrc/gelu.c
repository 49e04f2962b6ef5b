/* GELU, x Phi(x), with Phi by Abramowitz and Stegun 7.1.26 (error below 1.5e-7). */

#include "kernels.h"

INLINE __m512 normal_cdf(__m512 x, __m512 *density) {
    __m512 half_square = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f));
    __m512 bell = exp_(half_square);
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    __m512 t = _mm512_div_ps(_mm512_set1_ps(1.0f),
                             _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 upper = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(p, t), bell), _mm512_set1_ps(0.5f));
    *density = _mm512_mul_ps(bell, _mm512_set1_ps(0.39894228f));
    __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mask_sub_ps(upper, positive, _mm512_set1_ps(1.0f), upper);
}

void gelu_forward(const bf16 *x, bf16 *y, long count) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count / 16; i++) {
        __m512 v = load(x + 16 * i), density;
        store(y + 16 * i, _mm512_mul_ps(v, normal_cdf(v, &density)));
    }
}

void gelu_backward(const bf16 *grad, const bf16 *x, bf16 *grad_x, long count) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count / 16; i++) {
        __m512 v = load(x + 16 * i), density, cdf = normal_cdf(v, &density);
        __m512 slope = _mm512_fmadd_ps(v, density, cdf);
        store(grad_x + 16 * i, _mm512_mul_ps(load(grad + 16 * i), slope));
    }
}
