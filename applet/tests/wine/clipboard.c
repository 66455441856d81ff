// Prints the text on the clipboard, in UTF-8, as soon as there is one. For tests only.
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <windows.h>

int main(void) {
    // Lines end as they do there.
    _setmode(_fileno(stdout), _O_BINARY);
    for (;; Sleep(20)) {
        if (!OpenClipboard(NULL)) continue;
        HANDLE memory = GetClipboardData(CF_UNICODETEXT);
        const WCHAR *text = memory ? GlobalLock(memory) : NULL;
        char bytes[4096];
        int length = text ? WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, sizeof bytes, NULL, NULL) : 0;
        if (text) GlobalUnlock(memory);
        CloseClipboard();
        if (length > 1) return fwrite(bytes, 1, length - 1, stdout) == (size_t)length - 1 ? 0 : 1;
    }
}
