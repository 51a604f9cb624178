/* The workloads of the table in C, fused by hand: what a C programmer would write.
 *
 *     cc -O3 -march=native -ffast-math -fopenmp -shared -fPIC kernels.c -lm
 *
 * Arrays are contiguous, in C order; results are allocated by the caller. */

#include <math.h>
#include <stdlib.h>

#define FOR _Pragma("omp parallel for schedule(static)") for
#define SIMD _Pragma("omp simd") for

void add(double *restrict out, const double *a, const double *b, long n)
{
    FOR (long i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

void three_statements(double *restrict out, const double *a, const double *b, const double *c, long n)
{
    FOR (long i = 0; i < n; i++) {
        double t = a[i] * b[i] + c[i];
        out[i] = t * t - a[i] + 0.5 * t;
    }
}

/* ---- option prices -------------------------------------------------------------- */
#define OPTIONS(NAME, REAL, SQRT, LOG, EXP, ABS)                                               \
    static inline REAL NAME##_normal(REAL d)                                                   \
    {                                                                                          \
        REAL k = 1 / (1 + (REAL)0.2316419 * ABS(d));                                           \
        REAL tail = (REAL)0.3989422804014327 * EXP((REAL)-0.5 * d * d) * (k * ((REAL)0.319381530 \
            + k * ((REAL)-0.356563782 + k * ((REAL)1.781477937 + k * ((REAL)-1.821255978       \
            + k * (REAL)1.330274429)))));                                                      \
        return d > 0 ? 1 - tail : tail;                                                        \
    }                                                                                          \
    void NAME(REAL *restrict calls, REAL *restrict puts, const REAL *price, const REAL *strike, \
              const REAL *years, long n)                                                       \
    {                                                                                          \
        const REAL rate = (REAL)0.02, volatility = (REAL)0.3;                                  \
        FOR (long i = 0; i < n; i++) {                                                         \
            REAL root = volatility * SQRT(years[i]);                                           \
            REAL d1 = (LOG(price[i] / strike[i])                                               \
                       + (rate + (REAL)0.5 * volatility * volatility) * years[i]) / root;      \
            REAL discounted = strike[i] * EXP(-rate * years[i]);                               \
            REAL call = price[i] * NAME##_normal(d1) - discounted * NAME##_normal(d1 - root);  \
            calls[i] = call;                                                                   \
            puts[i] = call - price[i] + discounted;                                            \
        }                                                                                      \
    }

OPTIONS(options_f64, double, sqrt, log, exp, fabs)
OPTIONS(options_f32, float, sqrtf, logf, expf, fabsf)

/* ---- rows ------------------------------------------------------------------------- */
void softmax(double *restrict out, const double *x, long rows, long columns)
{
    FOR (long i = 0; i < rows; i++) {
        const double *row = x + i * columns;
        double *to = out + i * columns, total = 0;
        for (long j = 0; j < columns; j++) {
            double e = exp(row[j]);
            to[j] = e;
            total += e;
        }
        double factor = 1 / total;
        for (long j = 0; j < columns; j++)
            to[j] *= factor;
    }
}

void layernorm(double *restrict out, const double *x, long rows, long columns)
{
    FOR (long i = 0; i < rows; i++) {
        const double *row = x + i * columns;
        double *to = out + i * columns, total = 0, squares = 0;
        for (long j = 0; j < columns; j++)
            total += row[j];
        double mean = total / columns;
        for (long j = 0; j < columns; j++)
            squares += (row[j] - mean) * (row[j] - mean);
        double factor = 1 / sqrt(squares / columns + 1e-5);
        for (long j = 0; j < columns; j++)
            to[j] = (row[j] - mean) * factor;
    }
}

void row_normalise(double *restrict out, const double *x, long rows, long columns)
{
    FOR (long i = 0; i < rows; i++) {
        const double *row = x + i * columns;
        double *to = out + i * columns, total = 0;
        for (long j = 0; j < columns; j++)
            total += row[j];
        double factor = 1 / total;
        for (long j = 0; j < columns; j++)
            to[j] = row[j] * factor;
    }
}

/* ---- reductions --------------------------------------------------------------------- */
double sum(const double *x, long n)
{
    double total = 0;
    _Pragma("omp parallel for schedule(static) reduction(+:total)")
    for (long i = 0; i < n; i++)
        total += x[i];
    return total;
}

double dot(const double *x, const double *y, long n)
{
    double total = 0;
    _Pragma("omp parallel for schedule(static) reduction(+:total)")
    for (long i = 0; i < n; i++)
        total += x[i] * y[i];
    return total;
}

double squares_around(const double *x, double mean, long n)
{
    double total = 0;
    _Pragma("omp parallel for schedule(static) reduction(+:total)")
    for (long i = 0; i < n; i++)
        total += (x[i] - mean) * (x[i] - mean);
    return total;
}

/* ---- stencils ------------------------------------------------------------------------ */
void jacobi(double *restrict a, double *restrict b, long rows, long columns, long sweeps)
{
    for (long sweep = 0; sweep < sweeps; sweep++) {
        FOR (long i = 1; i < rows - 1; i++)
            SIMD (long j = 1; j < columns - 1; j++)
                b[i * columns + j] = 0.25 * (a[(i - 1) * columns + j] + a[(i + 1) * columns + j]
                                             + a[i * columns + j - 1] + a[i * columns + j + 1]);
        double *other = a;
        a = b;
        b = other;
    }
}

void blur(double *restrict out, const double *image, long rows, long columns)
{
    const double third = 1.0 / 3;
    long width = columns - 2;
    _Pragma("omp parallel")
    {
        /* three rows that are blurred along their length, used in turn */
        double *window = malloc(3 * width * sizeof(double));
        long last = -1;
        _Pragma("omp for schedule(static)")
        for (long i = 0; i < rows - 2; i++) {
            for (long r = last > i ? last : i; r < i + 3; r++) {
                const double *row = image + r * columns;
                double *to = window + (r % 3) * width;
                SIMD (long j = 0; j < width; j++)
                    to[j] = (row[j] + row[j + 1] + row[j + 2]) * third;
            }
            last = i + 3;
            SIMD (long j = 0; j < width; j++)
                out[i * width + j] = (window[j] + window[width + j] + window[2 * width + j]) * third;
        }
        free(window);
    }
}

/* ---- products of a matrix and vectors -------------------------------------------------- */
/* Each thread adds up columns in a vector of its own; one of them writes at a time. */
#define ADD_COLUMNS(OUT, PART, N)                                                              \
    _Pragma("omp critical")                                                                    \
    for (long j = 0; j < N; j++)                                                               \
        OUT[j] += PART[j];

void atax(double *restrict out, const double *a, const double *x, long rows, long columns)
{
    _Pragma("omp parallel")
    {
        double *part = calloc(columns, sizeof(double));
        _Pragma("omp for schedule(static)")
        for (long i = 0; i < rows; i++) {
            const double *row = a + i * columns;
            double total = 0;
            for (long j = 0; j < columns; j++)
                total += row[j] * x[j];
            for (long j = 0; j < columns; j++)
                part[j] += row[j] * total;
        }
        ADD_COLUMNS(out, part, columns)
        free(part);
    }
}

void bicg(double *restrict q, double *restrict s, const double *a, const double *x,
          const double *y, long rows, long columns)
{
    _Pragma("omp parallel")
    {
        double *part = calloc(columns, sizeof(double));
        _Pragma("omp for schedule(static)")
        for (long i = 0; i < rows; i++) {
            const double *row = a + i * columns;
            double total = 0, factor = y[i];
            for (long j = 0; j < columns; j++) {
                total += row[j] * x[j];
                part[j] += row[j] * factor;
            }
            q[i] = total;
        }
        ADD_COLUMNS(s, part, columns)
        free(part);
    }
}

void gemver(double *restrict b, double *restrict x, double *restrict out, const double *a,
            const double *u, const double *v, const double *y, long rows, long columns)
{
    _Pragma("omp parallel")
    {
        double *part = calloc(columns, sizeof(double));
        _Pragma("omp for schedule(static)")
        for (long i = 0; i < rows; i++) {
            const double *row = a + i * columns;
            double *to = b + i * columns;
            for (long j = 0; j < columns; j++) {
                double value = row[j] + u[i] * v[j];
                to[j] = value;
                part[j] += value * y[i];
            }
        }
        ADD_COLUMNS(x, part, columns)
        free(part);
    }
    for (long j = 0; j < columns; j++)
        x[j] = 0.5 * x[j] + v[j];
    FOR (long i = 0; i < rows; i++) {
        double total = 0;
        for (long j = 0; j < columns; j++)
            total += b[i * columns + j] * x[j];
        out[i] = total;
    }
}

/* ---- a matrix product: blocks of b in the cache, four rows of a at a time ----------------- */
void matmul(double *restrict c, const double *restrict a, const double *restrict b, long n, long m,
            long inner)
{
    enum { DEPTH = 128, WIDTH = 256 };
    FOR (long i0 = 0; i0 < n; i0 += 64)
        for (long k0 = 0; k0 < inner; k0 += DEPTH)
            for (long j0 = 0; j0 < m; j0 += WIDTH) {
                long i1 = i0 + 64 < n ? i0 + 64 : n, k1 = k0 + DEPTH < inner ? k0 + DEPTH : inner;
                long j1 = j0 + WIDTH < m ? j0 + WIDTH : m, i = i0;
                for (; i + 4 <= i1; i += 4)
                    for (long k = k0; k + 4 <= k1; k += 4) {
                        SIMD (long j = j0; j < j1; j++) {
                            double p = b[k * m + j], q = b[(k + 1) * m + j];
                            double r = b[(k + 2) * m + j], s = b[(k + 3) * m + j];
                            const double *w = a + i * inner + k;
                            double *to = c + i * m + j;
                            to[0] += w[0] * p + w[1] * q + w[2] * r + w[3] * s;
                            w += inner;
                            to[m] += w[0] * p + w[1] * q + w[2] * r + w[3] * s;
                            w += inner;
                            to[2 * m] += w[0] * p + w[1] * q + w[2] * r + w[3] * s;
                            w += inner;
                            to[3 * m] += w[0] * p + w[1] * q + w[2] * r + w[3] * s;
                        }
                    }
                for (long r = i0; r < i1; r++)
                    for (long k = r < i ? k0 + (k1 - k0) / 4 * 4 : k0; k < k1; k++)
                        SIMD (long j = j0; j < j1; j++)
                            c[r * m + j] += a[r * inner + k] * b[k * m + j];
            }
}

/* ---- all pairs ------------------------------------------------------------------------------ */
void pairwise(double *restrict out, const double *x, const double *y, long n, long m, long columns)
{
    FOR (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++) {
            double total = 0;
            for (long k = 0; k < columns; k++) {
                double distance = x[i * columns + k] - y[j * columns + k];
                total += distance * distance;
            }
            out[i * m + j] = sqrt(total);
        }
}

void nbody(double *restrict ax, double *restrict ay, double *restrict az, const double *x,
           const double *y, const double *z, const double *mass, long n)
{
    FOR (long i = 0; i < n; i++) {
        double fx = 0, fy = 0, fz = 0;
        for (long j = 0; j < n; j++) {
            double dx = x[j] - x[i], dy = y[j] - y[i], dz = z[j] - z[i];
            double r2 = dx * dx + dy * dy + dz * dz + 1e-3;
            double pull = mass[j] / (r2 * sqrt(r2));
            fx += dx * pull;
            fy += dy * pull;
            fz += dz * pull;
        }
        ax[i] = fx;
        ay[i] = fy;
        az[i] = fz;
    }
}

/* ---- the Mandelbrot set: eight points at a time, until all of them have left ------------------ */
void mandelbrot(long *restrict out, const double *real, const double *imaginary, long n, long m,
                long limit)
{
    enum { LANES = 8 };
    FOR (long i = 0; i < n; i++)
        for (long j0 = 0; j0 < m; j0 += LANES) {
            double x[LANES] = {0}, y[LANES] = {0}, c[LANES];
            long steps[LANES], left = 0;
            for (int l = 0; l < LANES; l++) {
                c[l] = real[j0 + l < m ? j0 + l : m - 1];
                steps[l] = limit;
            }
            for (long step = 0; step < limit && left < LANES; step++) {
                left = 0;
                for (int l = 0; l < LANES; l++) {
                    double next = x[l] * x[l] - y[l] * y[l] + c[l];
                    y[l] = 2 * x[l] * y[l] + imaginary[i];
                    x[l] = next;
                    long out_now = x[l] * x[l] + y[l] * y[l] > 4;
                    steps[l] = out_now && steps[l] == limit ? step : steps[l];
                    left += steps[l] != limit;
                }
            }
            for (int l = 0; l < LANES && j0 + l < m; l++)
                out[i * m + j0 + l] = steps[l];
        }
}

/* ---- broadcasts --------------------------------------------------------------------------------- */
void outer_sum(double *restrict out, const double *column, const double *row, long n, long m)
{
    FOR (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++)
            out[i * m + j] = column[i] + row[j];
}

void add_row(double *restrict out, const double *matrix, const double *row, long n, long m)
{
    FOR (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++)
            out[i * m + j] = matrix[i * m + j] + row[j];
}

void scale_rows(double *restrict out, const double *matrix, const double *column, long n, long m)
{
    FOR (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++)
            out[i * m + j] = matrix[i * m + j] * column[i];
}
