// Starts a program as the desktop does, without a console and without anything to print on, waits for it, and ends with its exit
// code. For tests only.
#include <windows.h>

int WINAPI WinMain(HINSTANCE instance, HINSTANCE before, LPSTR line, int show) {
    STARTUPINFOA start = {.cb = sizeof start};
    PROCESS_INFORMATION started;
    if (!CreateProcessA(NULL, line, NULL, NULL, FALSE, DETACHED_PROCESS, NULL, NULL, &start, &started)) return 99;
    DWORD code = 98;
    WaitForSingleObject(started.hProcess, INFINITE);
    GetExitCodeProcess(started.hProcess, &code);
    return (int)code;
}
