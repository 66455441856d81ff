//! The codec's hot paths on pictures made here, one at a time, for counting instructions: `scripts/bench-instructions` runs this
//! under callgrind, which counts what happens in [`measured`] only. Instructions don't depend on how busy a machine is.

use std::hint::black_box;

use tandem_codec::{
    Base, Decoder, DecoderLimits, Encoder, EncoderOptions, Hints, PIXEL, Picture, PixelOrder, Rect, Size,
};

const SIZE: Size = Size { w: 1280, h: 720 };

/// How a second picture comes from the first.
type Change = fn(&mut Picture);

/// What is measured, by name.
const CASES: [(&str, Change); 6] = [
    ("unchanged", |_| ()),
    ("typing", |picture| text(picture, Rect { x: 300, y: 300, w: 12, h: 16 }, 9)),
    ("scroll", |picture| move_rect(picture, Rect { x: 100, y: 40, w: 1000, h: 600 }, (0, 48))),
    ("drag", |picture| move_rect(picture, Rect { x: 200, y: 100, w: 500, h: 400 }, (37, 21))),
    ("page", |picture| text(picture, SIZE.rect(), 7)),
    ("photo", photo),
];

/// The fourth byte of a pixel in memory, as grabs have it.
const OPAQUE: u8 = 255;

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let Some((name, change)) = CASES.into_iter().find(|(name, _)| *name == wanted) else {
        let names = CASES.map(|(name, _)| name).join(" ");
        // Without a name it says which there are.
        return println!("{names}");
    };
    let mut picture = Picture::black(SIZE);
    text(&mut picture, SIZE.rect(), 1);
    let mut encoder = Encoder::new(EncoderOptions::new(SIZE)).expect("a size that is allowed");
    let first = encoder.encode(picture.borrow(), &Hints::default(), usize::MAX);
    let first = first.expect("memory").expect("text is not black");
    let mut decoder = Decoder::new(DecoderLimits::default(), PixelOrder::Bgra);
    decoder.start(Base::Black, &first.body).expect("it decodes");
    change(&mut picture);
    let bytes = measured(&mut encoder, &mut decoder, &picture);
    assert_eq!(decoder.picture(), picture.bytes(), "exact");
    println!("{name} {bytes}");
}

/// One picture, encoded and decoded: its bytes.
#[inline(never)]
fn measured(encoder: &mut Encoder, decoder: &mut Decoder, picture: &Picture) -> usize {
    let update = encoder.encode(black_box(picture).borrow(), &Hints::default(), usize::MAX).expect("memory");
    let Some(update) = update else { return 0 };
    decoder.update(&update.body).expect("it decodes");
    update.body.len()
}

/// The same numbers everywhere.
fn random(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *state >> 16
}

fn pixels(picture: &mut Picture, rect: Rect, mut pixel: impl FnMut(u16, u16) -> [u8; PIXEL]) {
    for y in rect.y..rect.y + rect.h {
        for x in rect.x..rect.x + rect.w {
            let at = (usize::from(y) * usize::from(SIZE.w) + usize::from(x)) * PIXEL;
            picture.bytes_mut()[at..at + PIXEL].copy_from_slice(&pixel(x, y));
        }
    }
}

/// Lines of letters: one of 64 shapes of 8 × 16 pixels in each place, many of them blank.
fn text(picture: &mut Picture, rect: Rect, seed: u32) {
    pixels(picture, rect, |x, y| {
        let place = u32::from(x / 8) + u32::from(y / 16) * 1000;
        let letter = random(&mut (place.wrapping_mul(2_654_435_761) ^ seed)) % 96;
        let dot = random(&mut (letter * 128 + u32::from(x % 8) + u32::from(y % 16) * 8)) % 3;
        let is_ink = letter < 64 && dot == 0 && y % 16 > 2;
        if is_ink { [30, 20, 10, OPAQUE] } else { [250, 250, 250, OPAQUE] }
    });
}

/// A smooth picture with a little noise.
fn photo(picture: &mut Picture) {
    let mut state = 5;
    pixels(picture, SIZE.rect(), |x, y| {
        let noise = (random(&mut state) % 7) as u8;
        let wave = |a: u16, b: u16| ((f32::from(a) / 90.0).sin() * 60.0 + f32::from(b) / 9.0) as i32 + 90;
        [wave(x, y) as u8 + noise, wave(y, x) as u8 + noise / 2, (x / 6) as u8 / 2 + noise, OPAQUE]
    });
}

/// Moves a rectangle by so many pixels right and down; what it leaves stays.
fn move_rect(picture: &mut Picture, rect: Rect, (right, down): (u16, u16)) {
    let before = picture.clone();
    let to = Rect { x: rect.x + right, y: rect.y + down, ..rect };
    pixels(picture, to, |x, y| {
        let at = (usize::from(y - down) * usize::from(SIZE.w) + usize::from(x - right)) * PIXEL;
        let pixel = &before.bytes()[at..at + PIXEL];
        [pixel[0], pixel[1], pixel[2], pixel[3]]
    });
}
