//! H.264 by openh264: pictures of a region in, Annex B out, and back. Camera mode, a QP for each picture, no delay.
//!
//! Screen mode needs twice the bytes and time on what a region is for, and openh264's own rate control misses its target by a
//! factor of two, so the QP comes from [`super::rate`].

use openh264::OpenH264API;
use openh264::decoder::DecodedYUV;
use openh264::encoder::{
    Complexity, Encoder, EncoderConfig, IntraFramePeriod, RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, SEncParamExt};
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use crate::decoder::PixelOrder;
use crate::picture::{PIXEL, PictureRef, Rect, Size};
use crate::wire::CodedSize;

/// The QP that openh264 starts with.
const FIRST_QP: u8 = 26;
/// Longest and shortest side that openh264 takes.
const SIDES: std::ops::RangeInclusive<u16> = 16..=3840;
const SHORT_SIDE_MAX: u16 = 2160;

/// The codec refused. Its state means nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl From<openh264::Error> for Failed {
    fn from(_: openh264::Error) -> Self {
        Self
    }
}

/// A region's encoder.
pub(crate) struct Coder {
    encoder: Encoder,
    planes: Planes,
    qp: u8,
}

impl Coder {
    /// Whether regions of this size can be coded at all.
    pub(crate) fn can(size: Size) -> bool {
        SIDES.contains(&size.w) && SIDES.contains(&size.h) && size.w.min(size.h) <= SHORT_SIDE_MAX
    }

    /// For pictures of `size`. `None` if openh264 refuses.
    pub(crate) fn new(size: Size) -> Option<Self> {
        let config = EncoderConfig::new()
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .scene_change_detect(false)
            .background_detection(false)
            .adaptive_quantization(false)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0))
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).ok()?;
        let planes = Planes::black(size);
        // It takes a QP only once it runs, and runs with its first picture: a black one that nobody sees costs least.
        encoder.encode(&planes).ok()?;
        Some(Self { encoder, planes, qp: FIRST_QP })
    }

    /// The size of coded pictures.
    pub(crate) fn coded(&self) -> CodedSize {
        CodedSize { size: self.planes.coded, crop: (0, 0) }
    }

    /// Appends the picture of `rect`, which has the size that the encoder was made for. `first`: as an IDR.
    pub(crate) fn encode(
        &mut self,
        picture: PictureRef<'_>,
        rect: Rect,
        first: bool,
        qp: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        self.planes.take(picture, rect)?;
        self.set_qp(qp)?;
        if first {
            self.encoder.force_intra_frame();
        }
        let before = out.len();
        self.encoder.encode(&self.planes)?.write_vec(out);
        if out.len() > before { Ok(()) } else { Err(Failed) }
    }

    #[expect(unsafe_code, reason = "the safe interface has no option for it")]
    fn set_qp(&mut self, qp: u8) -> Result<(), Failed> {
        if qp == self.qp {
            return Ok(());
        }
        let mut parameters = SEncParamExt::default();
        // SAFETY: this option's value is an `SEncParamExt`, which both calls only copy, and no picture is being coded meanwhile.
        // A QP for the one layer that there is changes nothing that the wrapper relies on.
        let results = unsafe {
            let api = self.encoder.raw_api();
            let got = api.get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut parameters).cast());
            parameters.sSpatialLayers[0].iDLayerQp = qp.into();
            [got, api.set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut parameters).cast())]
        };
        self.qp = qp;
        if results == [0, 0] { Ok(()) } else { Err(Failed) }
    }
}

/// A picture in 4:2:0, its size rounded up to even sides.
struct Planes {
    size: Size,
    coded: Size,
    bytes: Vec<u8>,
}

impl Planes {
    fn black(size: Size) -> Self {
        let coded = Size { w: size.w.next_multiple_of(2), h: size.h.next_multiple_of(2) };
        let mut bytes = vec![16; coded.pixels() * 3 / 2];
        bytes[coded.pixels()..].fill(128);
        Self { size, coded, bytes }
    }

    fn split(&self) -> [&[u8]; 3] {
        let (y, chroma) = self.bytes.split_at(self.coded.pixels());
        let (u, v) = chroma.split_at(chroma.len() / 2);
        [y, u, v]
    }

    /// BT.709, limited range.
    fn take(&mut self, picture: PictureRef<'_>, rect: Rect) -> Result<(), Failed> {
        let (bytes, stride) = picture.from(rect);
        // The conversion reads whole strides, and the last row need not have all of its own.
        let last = if rect.h.is_multiple_of(2) { 2 } else { 1 };
        let above = rect.h - last;
        let row = usize::from(rect.w) * PIXEL;
        let tail: Vec<u8> = bytes[usize::from(above) * stride..]
            .chunks(stride)
            .take(last.into())
            .flat_map(|r| &r[..row])
            .copied()
            .collect();
        if above > 0 {
            self.convert(0, above, &bytes[..usize::from(above) * stride], stride)?;
        }
        self.convert(above, last, &tail, row)?;
        self.pad();
        Ok(())
    }

    /// Converts so many rows, from an even one on.
    fn convert(&mut self, from: u16, rows: u16, bytes: &[u8], stride: usize) -> Result<(), Failed> {
        let width = usize::from(self.coded.w);
        let (from, rows) = (usize::from(from), usize::from(rows));
        let (y, chroma) = self.bytes.split_at_mut(self.coded.pixels());
        let (u, v) = chroma.split_at_mut(self.coded.pixels() / 4);
        let halved = from / 2 * (width / 2)..(from / 2 + rows.div_ceil(2)) * (width / 2);
        let mut image = YuvPlanarImageMut {
            y_plane: BufferStoreMut::Borrowed(&mut y[from * width..(from + rows) * width]),
            y_stride: width as u32,
            u_plane: BufferStoreMut::Borrowed(&mut u[halved.clone()]),
            u_stride: width as u32 / 2,
            v_plane: BufferStoreMut::Borrowed(&mut v[halved]),
            v_stride: width as u32 / 2,
            width: self.size.w.into(),
            height: rows as u32,
        };
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt709);
        yuv::bgra_to_yuv420(&mut image, bytes, stride as u32, range, matrix, YuvConversionMode::Balanced)
            .map_err(|_| Failed)
    }

    /// An odd side's last column or row once more. Chroma is as large already.
    fn pad(&mut self) {
        let (w, h) = (usize::from(self.size.w), usize::from(self.size.h));
        let stride = usize::from(self.coded.w);
        if w < stride {
            self.bytes[..stride * h].chunks_exact_mut(stride).for_each(|row| row[w] = row[w - 1]);
        }
        if self.size.h < self.coded.h {
            self.bytes.copy_within((h - 1) * stride..h * stride, h * stride);
        }
    }
}

impl YUVSource for Planes {
    fn dimensions(&self) -> (usize, usize) {
        (self.coded.w.into(), self.coded.h.into())
    }

    fn strides(&self) -> (usize, usize, usize) {
        let width = usize::from(self.coded.w);
        (width, width / 2, width / 2)
    }

    fn y(&self) -> &[u8] {
        self.split()[0]
    }

    fn u(&self) -> &[u8] {
        self.split()[1]
    }

    fn v(&self) -> &[u8] {
        self.split()[2]
    }
}

/// A region's decoder.
pub(super) struct Player {
    decoder: openh264::decoder::Decoder,
    /// A whole picture, if only a part of it is shown.
    whole: Vec<u8>,
}

impl Player {
    pub(super) fn new() -> Option<Self> {
        Some(Self { decoder: openh264::decoder::Decoder::new().ok()?, whole: Vec::new() })
    }

    /// Decodes a picture and puts what is shown of it, `size`, into `pixels`: four bytes each, rows without gaps. With no
    /// `pixels` it is decoded only for those that build on it.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        coded: CodedSize,
        size: Size,
        order: PixelOrder,
        pixels: Option<&mut Vec<u8>>,
    ) -> Result<(), Failed> {
        let picture = self.decoder.decode(bytes)?.ok_or(Failed)?;
        if picture.dimensions() != (usize::from(coded.size.w), usize::from(coded.size.h)) {
            return Err(Failed);
        }
        let Some(pixels) = pixels else { return Ok(()) };
        if coded.size == size {
            return convert(&picture, coded.size, order, pixels);
        }
        convert(&picture, coded.size, order, &mut self.whole)?;
        let stride = usize::from(coded.size.w) * PIXEL;
        let shown = Rect { x: coded.crop.0, y: coded.crop.1, w: size.w, h: size.h };
        pixels.clear();
        shown.rows().for_each(|y| pixels.extend_from_slice(&self.whole[y * stride..][shown.span(PIXEL)]));
        Ok(())
    }
}

fn convert(
    picture: &DecodedYUV<'_>,
    size: Size,
    order: PixelOrder,
    pixels: &mut Vec<u8>,
) -> Result<(), Failed> {
    let strides = picture.strides();
    let image = YuvPlanarImage {
        y_plane: picture.y(),
        y_stride: strides.0 as u32,
        u_plane: picture.u(),
        u_stride: strides.1 as u32,
        v_plane: picture.v(),
        v_stride: strides.2 as u32,
        width: size.w.into(),
        height: size.h.into(),
    };
    pixels.resize(size.pixels() * PIXEL, 0);
    let stride = u32::from(size.w) * PIXEL as u32;
    let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt709);
    let converted = match order {
        PixelOrder::Bgra => yuv::yuv420_to_bgra(&image, pixels, stride, range, matrix),
        PixelOrder::Rgba => yuv::yuv420_to_rgba(&image, pixels, stride, range, matrix),
    };
    converted.map_err(|_| Failed)
}
