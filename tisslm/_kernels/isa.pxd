from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "c/tiss.h":
    ctypedef struct tiss_dropout:
        uint64_t seed
        uint32_t update
        uint32_t site
        uint32_t threshold
        float scale

    ctypedef struct tiss_gemm:
        int m
        int n
        int k
        int a_type
        int b_type
        int c_type
        const void *a
        int64_t a_row
        int64_t a_col
        const void *b
        int64_t b_row
        int64_t b_col
        const float *bias
        void *c
        int64_t c_row
        int accumulate
        int activation
        void *act

    ctypedef struct tiss_attention:
        int T
        int D
        int n_head
        int n_kv_head
        int64_t row
        int64_t out_row
        float scale
        const tiss_dropout *dropout
        uint32_t sample
        const int32_t *start

    ctypedef struct tiss_rows:
        void (*layer_norm_forward)(const float *, const float *, const float *, void *, void *,
                                   float *, float *, int, float) noexcept nogil
        void (*layer_norm_apply)(const void *, const float *, const float *, float, float,
                                 void *, int) noexcept nogil
        void (*layer_norm_backward)(const float *, const void *, const float *, float, float,
                                    const float *, float *, float *, float *, int) noexcept nogil
        void (*activation_forward)(const void *, void *, int64_t, int) noexcept nogil
        void (*activation_backward)(const void *, const void *, void *, void *, int64_t,
                                    int) noexcept nogil
        void (*drop)(const tiss_dropout *, uint32_t, uint64_t, const float *, void *,
                     int) noexcept nogil
        void (*residual)(const tiss_dropout *, uint32_t, uint64_t, float *, const void *,
                         int) noexcept nogil
        void (*sum_rows)(const void *, int64_t, int64_t, int, float *) noexcept nogil
        int64_t (*attention_scratch)(int, int, int) noexcept nogil
        void (*attention_forward)(const tiss_attention *, int, int, const void *, void *,
                                  float *, float *) noexcept nogil
        void (*attention_backward)(const tiss_attention *, int, const void *, const void *,
                                   const void *, const float *, void *, float *) noexcept nogil
        void (*attention_entropy)(const tiss_attention *, int, int, const void *, const float *,
                                  float *, float *) noexcept nogil

    ctypedef struct tiss_table:
        const char *name
        int level
        int mr
        int nr
        int pairs
        tiss_rows of[3]
        int64_t (*gemm_scratch)(const tiss_gemm *) noexcept nogil
        void (*gemm)(const tiss_gemm *, float *) noexcept nogil
        void (*attention_decode)(const float *, const float *, const float *, float *, int, int,
                                 float, float *) noexcept nogil
        void (*add)(float *, const float *, int64_t) noexcept nogil
        void (*scale)(float *, float, int64_t) noexcept nogil
        double (*squared_norm)(const float *, int64_t) noexcept nogil
        void (*summarize)(const float *, int64_t, float, float, double *) noexcept nogil
        float (*max)(const float *, int64_t) noexcept nogil
        float (*sum)(const float *, float, int64_t) noexcept nogil
        float (*exp_sum)(const float *, float, int64_t) noexcept nogil
        void (*softmax_scale)(float *, float, float, float, int64_t) noexcept nogil
        int64_t (*rank)(const float *, int64_t, int64_t) noexcept nogil
        void (*sgd)(float *, const float *, float *, int64_t, float, float, int, float, int,
                    float, double *) noexcept nogil
        void (*adam)(float *, const float *, float *, float *, int64_t, double, double, double,
                     float, double, int, double, double, float, double *) noexcept nogil
        void (*rmsprop)(float *, const float *, float *, float *, float *, int64_t, float,
                        double, float, float, float, float, double *) noexcept nogil
        double (*fma_flops)(int64_t, float *) noexcept nogil
        double (*dot_flops)(int64_t, float *) noexcept nogil

    enum:
        TISS_BASELINE
        TISS_MOST
        TISS_TILE
        TISS_F32
        TISS_BF16
        TISS_F16

cdef const tiss_table* table() noexcept nogil
