// The sum over a block's threads, in a fixed order.
SNN_INLINE double block_sum(double value) {
  __shared__ double warps[kThreads / 32];
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; w++) total += warps[w];
  return total;
}
