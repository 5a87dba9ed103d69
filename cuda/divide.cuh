// Division on the GPU, where it costs as much as ten other operations, and what gradients may take instead.
//
//   SNN_OVER(a, name)   a / c.name for a divisor that stays the same: exact, with its inverse taken once, by as few
//                       operations as the divisor allows (kDivision_name)
//   SNN_NEAR(q, a, name)  the same quotient q, for gradients: in a unit in the last place, by a product. Computed anew in
//                       the reverse it costs less than q kept there for each step, in registers
//   snn_fast_...        a few units in the last place of a float: for gradients, where nothing hangs on the last bit
//   snn_fma             a b + c, rounded once

#define SNN_OVER(a, name) snn_over<kDivision_##name>(a, c.name, c.over_##name, c.watch)
#define SNN_NEAR(quotient, a, name) ((a) * (real)c.over_##name)
#define SNN_INVERSE(name) double over_##name;

// In double, a (1 / b) is within 2^-52 of a / b, and no quotient of two floats comes closer than 2^-49 to the middle
// between two floats: rounding to float gives a / b to the last bit, in three operations without a branch. (Below the
// normal range there are quotients right in the middle: 1e-45 may be missing there.) They are slow to answer, though, and
// two of them are conversions, of which a multiprocessor does an eighth as many. Where a lane waits for every step (kFew),
// the quotient is corrected by its remainder (Markstein 1990), which holds while nothing over- or underflows. It is only
// noted where that may not be so: a branch would cost more than the division. Who asked computes those steps again, with
// `careful`.
//
// For most divisors two products in float are as good, down to quotients of 1e-30 (kTwoProducts; which ones, and why:
// snnkit/ops/division.py). To note smaller ones costs more than it saves, so only half-precision calls take them.
constexpr int kProduct = 1, kTwoProducts = 2;
constexpr bool kFew = kWidth == 1 && !kOne;
struct Watch { mutable bool odd; bool careful; };
#define SNN_WATCH Watch watch;

template <int division> SNN_INLINE float snn_over(float a, float b, double inverse, const Watch &watch) {
  if (division == kProduct) return a * (float)inverse;
  if (division == kTwoProducts) {
    const float hi = __double2float_rz(inverse), lo = (float)(inverse - (double)hi);  // of one sign: infinity stays
    return fmaf(a, hi, a * lo);
  }
  if (!kFew || watch.careful) return (float)((double)a * inverse);
  const float r = (float)inverse, q = a * r;
  const bool sure = (fabsf(a) > 1e-27f && fabsf(a) < 1e25f) || __float_as_int(a) == 0;  // silence is exactly +0
  watch.odd |= !(sure && fabsf(b) > 1e-10f && fabsf(b) < 1e10f);
  return fmaf(fmaf(-b, q, a), r, q);
}
template <int division> SNN_INLINE double snn_over(double a, double b, double inverse, const Watch &) {
  return division == kProduct ? a * inverse : a / b;
}

SNN_INLINE float snn_fma(float a, float b, float c) { return fmaf(a, b, c); }
SNN_INLINE double snn_fma(double a, double b, double c) { return fma(a, b, c); }

SNN_INLINE float snn_fast_inverse(float a) { float r; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a)); return r; }
SNN_INLINE float snn_fast_div(float a, float b) { return a * snn_fast_inverse(b); }
SNN_INLINE float snn_fast_exp(float a) { return __expf(a); }
SNN_INLINE float snn_fast_sigmoid(float a) { return snn_fast_inverse(1.0f + __expf(-a)); }
SNN_INLINE double snn_fast_div(double a, double b) { return a / b; }
SNN_INLINE double snn_fast_exp(double a) { return snn_exp(a); }
SNN_INLINE double snn_fast_sigmoid(double a) { return snn_sigmoid(a); }
