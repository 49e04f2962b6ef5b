/* The gate of a gated feed-forward layer: y = silu(g) u, silu(g) = g sigmoid(g). */

#include "kernels.h"

INLINE __m512 sigmoid(__m512 g) {
    __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exp_(_mm512_sub_ps(_mm512_setzero_ps(), g))));
}

void gate_forward(const bf16 *g, const bf16 *u, bf16 *y, long count) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count / 16; i++) {
        __m512 gate = load(g + 16 * i);
        __m512 silu = _mm512_mul_ps(gate, sigmoid(gate));
        store(y + 16 * i, _mm512_mul_ps(silu, load(u + 16 * i)));
    }
}

void gate_backward(const bf16 *grad, const bf16 *g, const bf16 *u, bf16 *grad_g, bf16 *grad_u,
                   long count) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count / 16; i++) {
        __m512 gate = load(g + 16 * i), s = sigmoid(gate), d = load(grad + 16 * i);
        __m512 silu = _mm512_mul_ps(gate, s);
        /* silu' = s + g s (1 - s) = s + silu - silu s */
        __m512 slope = _mm512_add_ps(s, _mm512_fnmadd_ps(silu, s, silu));
        store(grad_u + 16 * i, _mm512_mul_ps(d, silu));
        store(grad_g + 16 * i, _mm512_mul_ps(_mm512_mul_ps(d, load(u + 16 * i)), slope));
    }
}
