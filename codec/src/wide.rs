//! Hot loops over pixels, built twice: for any processor, and with vectors of 32 bytes for those that have them.
//!
//! The loops are plain Rust that the compiler vectorizes; both builds give the same results.

/// Defines a function that runs `$body`, an `#[inline(always)]` function of the same signature, with AVX2 where there is AVX2.
macro_rules! wide {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path;) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: this processor has AVX2, which is all that the function demands.
                    #[expect(unsafe_code, reason = "whether a processor has a feature is not known to the compiler")]
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

pub(crate) use wide;
