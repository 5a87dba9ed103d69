// Functions of a step beyond + - * /, for lanes of float and double.
//
// Only + - * / and bit patterns, so that every compiler and device gives the same bits (no contraction, no fast-math).
// Gradients alone may differ in the last one: snn_fma rounds once where the machine can.
// exp: 1e-7 relative in float, 2e-16 in double. NaN passes through each but sign, which is 0 there as in torch. erf and
// atan come from the library: they serve relaxed mode alone, where nothing has to be equal bit for bit.

#ifdef __CUDACC__  // NVRTC knows the functions and has no headers
#define SNN_INLINE static __device__ __forceinline__
#define NAN __int_as_float(0x7fc00000)
#define INFINITY __int_as_float(0x7f800000)

SNN_INLINE float snn_from_bits(int bits) { return __int_as_float(bits); }
SNN_INLINE double snn_from_bits(long long bits) { return __longlong_as_double(bits); }
SNN_INLINE int snn_bits(float value) { return __float_as_int(value); }
SNN_INLINE long long snn_bits(double value) { return __double_as_longlong(value); }
#else
#include <math.h>
#include <string.h>
#define SNN_INLINE static inline __attribute__((always_inline))

SNN_INLINE float snn_from_bits(int bits) { float value; memcpy(&value, &bits, sizeof value); return value; }
SNN_INLINE double snn_from_bits(long long bits) { double value; memcpy(&value, &bits, sizeof value); return value; }
SNN_INLINE int snn_bits(float value) { int bits; memcpy(&bits, &value, sizeof bits); return bits; }
SNN_INLINE long long snn_bits(double value) { long long bits; memcpy(&bits, &value, sizeof bits); return bits; }
#endif

SNN_INLINE float snn_abs(float a) { return fabsf(a); }
SNN_INLINE double snn_abs(double a) { return fabs(a); }
SNN_INLINE float snn_sqrt(float a) { return sqrtf(a); }
SNN_INLINE double snn_sqrt(double a) { return sqrt(a); }
SNN_INLINE float snn_floor(float a) { return floorf(a); }
SNN_INLINE double snn_floor(double a) { return floor(a); }
SNN_INLINE float snn_round(float a) { return rintf(a); }
SNN_INLINE double snn_round(double a) { return rint(a); }
SNN_INLINE float snn_erf(float a) { return erff(a); }
SNN_INLINE double snn_erf(double a) { return erf(a); }
SNN_INLINE float snn_atan(float a) { return atanf(a); }
SNN_INLINE double snn_atan(double a) { return atan(a); }

template <typename real> SNN_INLINE real snn_sign(real a) { return a > 0 ? (real)1 : (a < 0 ? (real)-1 : (real)0); }
template <typename real> SNN_INLINE real snn_minimum(real a, real b) { return a < b || a != a ? a : b; }
template <typename real> SNN_INLINE real snn_maximum(real a, real b) { return a > b || a != a ? a : b; }

// exp(a) = 2^n exp(r), |r| <= ln(2) / 2. Adding 1.5 * 2^23 (2^52) rounds to a whole number whose two's complement
// stands in the low bits. 2^n is applied in two halves, so that subnormal and infinite results come out right.
SNN_INLINE float snn_exp(float a) {
  const float shift = 12582912.0f;
  const float n = (a * 1.44269504f + shift) - shift;
  const float r = (a - n * 0.693359375f) - n * -2.12194440e-4f;
  const float p = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120
                + r * (1.0f / 720 + r * (1.0f / 5040)))))));
  const float half = (n * 0.5f + shift), rest = (n - (half - shift)) + shift;
  const float first = snn_from_bits((int)(((unsigned)snn_bits(half) + 127u) << 23));
  const float second = snn_from_bits((int)(((unsigned)snn_bits(rest) + 127u) << 23));
  const float y = p * first * second;
  return a > 89.0f ? (float)INFINITY : (a < -104.0f ? 0.0f : y);
}

SNN_INLINE double snn_exp(double a) {
  const double shift = 6755399441055744.0;
  const double n = (a * 1.4426950408889634 + shift) - shift;
  const double r = (a - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  // exp(r) = 1 + (r + r^2 q): the small part is summed first.
  const double q = 1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040
                 + r * (1.0 / 40320 + r * (1.0 / 362880 + r * (1.0 / 3628800 + r * (1.0 / 39916800
                 + r * (1.0 / 479001600 + r * (1.0 / 6227020800.0)))))))))));
  const double p = 1.0 + (r + r * r * q);
  const double half = (n * 0.5 + shift), rest = (n - (half - shift)) + shift;
  const double first = snn_from_bits((long long)(((unsigned long long)snn_bits(half) + 1023ull) << 52));
  const double second = snn_from_bits((long long)(((unsigned long long)snn_bits(rest) + 1023ull) << 52));
  const double y = p * first * second;
  return a > 710.0 ? (double)INFINITY : (a < -746.0 ? 0.0 : y);
}

template <typename real> SNN_INLINE real snn_sigmoid(real a) { return (real)1 / ((real)1 + snn_exp(-a)); }

// log(a) = e ln(2) + log(m), m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh(f), f = (m - 1) / (m + 1).
SNN_INLINE float snn_log(float a) {
  const bool tiny = a < 1.17549435e-38f;
  const float scaled = tiny ? a * 33554432.0f : a;  // 2^25
  const int bits = snn_bits(scaled) - 0x3f3504f3;   // bits of sqrt(1/2)
  const float e = (float)(bits >> 23) - (tiny ? 25.0f : 0.0f);
  const float m = snn_from_bits((bits & 0x007fffff) + 0x3f3504f3);
  const float f = (m - 1.0f) / (m + 1.0f), z = f * f;
  const float tail = f * z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9 + z * (2.0f / 11)))));
  const float y = e * 0.693359375f + (2.0f * f + (tail + e * -2.12194440e-4f));
  return a > 0 ? (a > 3.40282347e38f ? a : y) : (a < 0 ? (float)NAN : (a == 0 ? -(float)INFINITY : a));
}

SNN_INLINE double snn_log(double a) {
  const bool tiny = a < 2.2250738585072014e-308;
  const double scaled = tiny ? a * 18014398509481984.0 : a;  // 2^54
  const long long bits = snn_bits(scaled) - 0x3fe6a09e667f3bcdll;
  const double e = (double)(int)(bits >> 52) - (tiny ? 54.0 : 0.0);
  const double m = snn_from_bits((bits & 0x000fffffffffffffll) + 0x3fe6a09e667f3bcdll);
  const double f = (m - 1.0) / (m + 1.0), z = f * f;
  const double tail = f * z * (2.0 / 3 + z * (2.0 / 5 + z * (2.0 / 7 + z * (2.0 / 9 + z * (2.0 / 11 + z * (2.0 / 13
                    + z * (2.0 / 15 + z * (2.0 / 17 + z * (2.0 / 19 + z * (2.0 / 21 + z * (2.0 / 23)))))))))));
  const double y = e * 0.693147180369123816490 + (2.0 * f + (tail + e * 1.90821492927058770002e-10));
  return a > 0 ? (a > 1.7976931348623157e308 ? a : y) : (a < 0 ? (double)NAN : (a == 0 ? -(double)INFINITY : a));
}

// tanh(a) = 1 - 2 / (exp(2 a) + 1); near zero the rational function of Cephes, which loses no digits there.
SNN_INLINE float snn_tanh(float a) {
  const float z = a * a;
  const float near = a + a * z * (-3.33332819422e-1f + z * (1.33314422036e-1f + z * (-5.37397155531e-2f
                   + z * (2.06390887954e-2f + z * -5.70498872745e-3f))));
  const float magnitude = 1.0f - 2.0f / (snn_exp(2.0f * fabsf(a)) + 1.0f);
  return fabsf(a) < 0.625f ? near : (a > 0 ? magnitude : -magnitude);
}

SNN_INLINE double snn_tanh(double a) {
  const double z = a * a;
  const double p = (-9.64399179425052238628e-1 * z + -9.92877231001918586564e1) * z + -1.61468768441708447952e3;
  const double q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3;
  const double magnitude = 1.0 - 2.0 / (snn_exp(2.0 * fabs(a)) + 1.0);
  return fabs(a) < 0.625 ? a + a * (z * p / q) : (a > 0 ? magnitude : -magnitude);
}

#ifndef __CUDACC__  // see divide.cuh for the GPU's
#ifdef SNN_PRODUCTS  // all divisors are powers of two: their inverses are exact, and so are the quotients
#define SNN_OVER(a, name) ((a) * c.over_##name)
#define SNN_INVERSE(name) real over_##name;
#else
#define SNN_OVER(a, name) ((a) / c.name)
#define SNN_INVERSE(name)
#endif
#define SNN_NEAR(quotient, a, name) (quotient)
#define SNN_WATCH
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
SNN_INLINE float snn_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SNN_INLINE double snn_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
#define snn_fma(a, b, c) ((a) * (b) + (c))
#endif
#define snn_fast_div(a, b) ((a) / (b))
#define snn_fast_exp snn_exp
#define snn_fast_sigmoid snn_sigmoid
#endif
