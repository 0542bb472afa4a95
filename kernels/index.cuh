#pragma once
// One thread per element of a C-ordered array (planes, rows, ny); threadIdx.x runs along y, so loads coalesce.
//
// Blocks run along rows first, then planes, then y: what is at work at a time is a slab of few y, and what its blocks
// share, other rows and planes of the same y, stays in the second-level cache however large the volume is.

using Index = long long;  // six components of 1024^3 voxels pass 2^31

struct Element {
    int plane, row, y;
    bool inside;
    Index at;  // where the element lies in the array

    __device__ Element(int planes, int rows, int ny) {
        plane = blockIdx.y;
        row = blockIdx.x * blockDim.y + threadIdx.y;
        y = blockIdx.z * blockDim.x + threadIdx.x;
        inside = plane < planes && row < rows && y < ny;
        at = (Index(plane) * rows + row) * ny + y;
    }
};
