/* The table of serial row and tile functions, one per instruction-set level.
 *
 * Every function works on memory its caller owns, allocates nothing, starts no thread and
 * raises nothing. levels.c compiles the same sources once per level; isa.pyx picks a table.
 */
#ifndef TISS_H
#define TISS_H

#include <stdint.h>

/* Key of a stream of random numbers: one dropout site in one optimizer update. */
typedef struct {
    uint64_t seed;
    uint32_t update;
    uint32_t site;
    uint32_t threshold; /* a 32-bit word below it drops its element */
    float scale;        /* what a kept element is multiplied by: 1 / (1 - p) */
} tiss_dropout;

/* One product C (+)= A B. Either stride of A and of B is 1. */
typedef struct {
    int m, n, k;
    const float *a; int64_t a_row, a_col;
    const float *b; int64_t b_row, b_col;
    const float *bias;      /* start of every sum of a column, or NULL */
    float *c; int64_t c_row;
    int accumulate;         /* start from C instead of bias or zero */
    int activation;         /* -1, or the code of what is written to act */
    float *act;             /* same row stride as C */
} tiss_gemm;

typedef struct {
    int T, D, n_head, n_kv_head;
    int64_t row;            /* floats from one token to the next in qkv */
    int64_t out_row;        /* floats from one token to the next in out */
    float scale;
    const tiss_dropout *dropout; /* NULL: none */
    uint32_t sample;
} tiss_attention;

typedef struct {
    const char *name;
    int level;
    int mr, nr;
    int64_t gemm_scratch;   /* floats that sgemm needs */
    void (*sgemm)(const tiss_gemm *g, float *scratch);
    int64_t (*attention_scratch)(int T, int D);
    void (*attention_forward)(const tiss_attention *p, int head, int tile, const float *qkv,
                              float *out, float *lse, float *scratch);
    void (*attention_backward)(const tiss_attention *p, int kv_head, const float *dout,
                               const float *qkv, const float *out, const float *lse,
                               float *dqkv, float *scratch);
    void (*attention_decode)(const float *q, const float *k, const float *v, float *out,
                             int length, int D, float scale, float *scores);
    void (*layer_norm_forward)(const float *x, const float *gamma, const float *beta, float *y,
                               float *mean, float *rstd, int C, float eps);
    void (*layer_norm_apply)(const float *x, const float *gamma, const float *beta, float mean,
                             float rstd, float *y, int C);
    void (*layer_norm_backward)(const float *dy, const float *x, const float *gamma, float mean,
                                float rstd, const float *dres, float *dx, float *dgamma,
                                float *dbeta, int C);
    void (*activation_forward)(const float *x, float *y, int64_t n, int code);
    void (*activation_backward)(const float *x, const float *dy, float *dx, float *y, int64_t n,
                                int code);
    void (*add)(float *x, const float *y, int64_t n);
    void (*scale)(float *x, float s, int64_t n);
    double (*squared_norm)(const float *x, int64_t n);
    void (*keep)(const tiss_dropout *d, uint32_t sample, uint64_t element, int n, float *factor);
    float (*max)(const float *x, int64_t n);
    float (*sum)(const float *x, int64_t n);
    float (*exp_sum)(const float *x, float shift, int64_t n);
    void (*softmax_scale)(float *x, float lse, float coefficient, float offset, int64_t n);
    void (*sgd)(float *p, const float *g, float *buf, int64_t n, float lr, float momentum,
                int nesterov, float decay, int first, float grad_scale);
    void (*adam)(float *p, const float *g, float *m, float *v, int64_t n, double lr,
                 double beta1, double beta2, float eps, double decay, int decoupled, double c1,
                 double c2, float grad_scale);
    void (*rmsprop)(float *p, const float *g, float *square, float *average, float *buf,
                    int64_t n, float lr, double alpha, float eps, float decay, float momentum,
                    float grad_scale);
    double (*fma_flops)(int64_t repeats, float *sink);
} tiss_table;

#define TISS_BASELINE 0
#define TISS_AVX2 1
#define TISS_AVX512 2
#define TISS_GELU 0
#define TISS_GELU_TANH 1
#define TISS_TILE 64 /* queries and keys of one attention tile */

/* The table of a level, or NULL where this processor or this build lacks it. */
const tiss_table *tiss_level(int level);

#endif
