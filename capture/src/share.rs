//! Places as Windows takes them: in 65536ths of the desktop.

/// The place of a pixel among `length` in 65536ths, such that the system computes the same pixel from it.
pub(crate) fn share(pixel: i32, length: i32) -> i32 {
    let (pixel, length) = (i64::from(pixel), i64::from(length.max(1)));
    (pixel * 65536).div_euclid(length) as i32 + i32::from((pixel * 65536).rem_euclid(length) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leads_back_to_its_pixel() {
        for length in [1, 2, 3, 640, 1366, 1920, 3840, 7680, 11520] {
            for pixel in 0..length {
                assert_eq!((i64::from(share(pixel, length)) * i64::from(length)) >> 16, i64::from(pixel));
            }
        }
    }
}
