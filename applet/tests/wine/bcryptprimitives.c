// What Rust's standard library takes from Windows' bcryptprimitives.dll, which older versions of wine lack. For tests only.
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *bytes, SIZE_T length) {
    return RtlGenRandom(bytes, (ULONG)length);
}
