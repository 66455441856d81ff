//! The viewer for browsers, over a plain C interface: no imports, no glue but a few lines of TypeScript.
//!
//! The page's worker makes a [`View`] for each display, writes whole records (header and body, as they came from a
//! screen or key lane) where [`view_input`] says, and calls [`view_apply`]. Then [`view_report`] has where the picture
//! lies in this module's memory, what changed, and the update that is shown. Pointers into memory hold until the next
//! call of `view_input` or `view_apply`, which may move things and grow the memory (and with it detach every view of
//! its buffer in JavaScript).
//!
//! Video comes undecoded: the report lists the pictures that a record has brought, and whoever has decoded one draws
//! it over the picture if [`view_show_video`] says so. The picture in this module is black there, or shows what was there before.
//!
//! A trap leaves the instance useless: drop it, make another and ask for a key.

use tandem_codec::{DecoderLimits, Outcome, PixelOrder, VideoPicture, Viewer, ViewerLimits};
use tandem_protocol::{Header, LaneKind, Rendition, limits};

/// What [`view_apply`] answers.
mod outcome {
    pub(crate) const APPLIED: u32 = 0;
    pub(crate) const HELD: u32 = 1;
    pub(crate) const SKIPPED: u32 = 2;
    /// Ask for a start and a key; the report has the reason.
    pub(crate) const LOST: u32 = 3;
    /// The bytes are not one whole record of such a lane: close the connection. The report has the reason.
    pub(crate) const NO_RECORD: u32 = 4;
}

/// Most bytes of a record.
const RECORD_MAX: usize = limits::HEADER_MAX + limits::BODY_MAX;

/// One display's viewer with its buffers.
#[allow(missing_debug_implementations, reason = "nothing prints here")]
pub struct View {
    viewer: Viewer,
    input: Vec<u8>,
    rects: Vec<[u16; 4]>,
    videos: Vec<Video>,
    /// What `videos` points to.
    pictures: Vec<VideoPicture>,
    error: String,
    report: Report,
}

/// What there is to know after a call, as 32-bit words in this order.
#[derive(Default)]
#[repr(C)]
pub struct Report {
    /// Where the picture is: RGBA rows without gaps.
    picture: u32,
    width: u32,
    height: u32,
    layout_generation: u32,
    /// Where the rectangles are that the last call changed (x, y, w, h, 16 bits each), and how many.
    rects: u32,
    rect_count: u32,
    /// 1 if the picture is a shadow; then its point follows.
    shown: u32,
    rendition: u32,
    segment: u32,
    seq_low: u32,
    seq_high: u32,
    /// Of the last record: its number, the sender's clock in µs, and the bytes of its body.
    record_seq_low: u32,
    record_seq_high: u32,
    record_time_low: u32,
    record_time_high: u32,
    record_body: u32,
    /// Where the text of the last `LOST` or `NO_RECORD` is, UTF-8.
    error: u32,
    error_len: u32,
    /// Where the video pictures are that the last record brought ([`Video`]), and how many. They are there until the next.
    videos: u32,
    video_count: u32,
    /// A bit for each video region that goes on.
    regions: u32,
}

/// A video picture, as 32-bit words in this order.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "nothing prints here")]
#[repr(C)]
pub struct Video {
    serial: u32,
    region: u32,
    /// 1 if the region begins.
    begins: u32,
    /// Where it is shown.
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    /// The upper left corner of what is shown of the decoded picture.
    crop_x: u32,
    crop_y: u32,
    /// Where its H.264 is, in Annex B.
    bytes: u32,
    bytes_len: u32,
}

impl Video {
    fn new(picture: &VideoPicture) -> Self {
        Self {
            serial: picture.serial as u32,
            region: picture.region.into(),
            begins: picture.begins.into(),
            x: picture.rect.x.into(),
            y: picture.rect.y.into(),
            width: picture.rect.w.into(),
            height: picture.rect.h.into(),
            crop_x: picture.coded.crop.0.into(),
            crop_y: picture.coded.crop.1.into(),
            bytes: picture.bytes.as_ptr() as u32,
            bytes_len: picture.bytes.len() as u32,
        }
    }
}

/// Version of this interface.
#[unsafe(no_mangle)]
pub extern "C" fn view_interface() -> u32 {
    3
}

/// A view for pictures of at most `pixels_max` pixels and windows of at most 2^`window_log_max` bytes (0: the codec's
/// own limits). Free it with [`view_free`].
#[unsafe(no_mangle)]
pub extern "C" fn view_new(pixels_max: u32, window_log_max: u32) -> *mut View {
    let mut decoder = DecoderLimits::default();
    if pixels_max > 0 {
        decoder.pixels_max = pixels_max as usize;
    }
    if window_log_max > 0 {
        decoder.window_log_max = window_log_max.min(255) as u8;
    }
    let limits = ViewerLimits { decoder, ..ViewerLimits::default() };
    Box::into_raw(Box::new(View {
        viewer: Viewer::new(limits, PixelOrder::Rgba),
        input: Vec::new(),
        rects: Vec::new(),
        videos: Vec::new(),
        pictures: Vec::new(),
        error: String::new(),
        report: Report::default(),
    }))
}

/// Ends a view.
///
/// # Safety
/// `view` comes from [`view_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_free(view: *mut View) {
    // SAFETY: by the contract above it is a box that nobody else has.
    drop(unsafe { Box::from_raw(view) });
}

/// Where to write a record of `len` bytes, or null if that is more than a record may have.
///
/// # Safety
/// `view` comes from [`view_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_input(view: *mut View, len: usize) -> *mut u8 {
    // SAFETY: by the contract it points to a view, and calls into a module never overlap.
    let view = unsafe { &mut *view };
    if len > RECORD_MAX {
        return std::ptr::null_mut();
    }
    view.input.resize(len, 0);
    view.input.as_mut_ptr()
}

/// Applies the record that was written. `lane` is the lane's kind as on the wire: 6 screen, 7 key. Answers: 0
/// applied, 1 held, 2 skipped, 3 lost (ask for a start and a key), 4 no record of such a lane.
///
/// # Safety
/// `view` comes from [`view_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_apply(view: *mut View, lane: u32) -> u32 {
    // SAFETY: by the contract it points to a view, and calls into a module never overlap.
    unsafe { &mut *view }.apply(lane)
}

/// Notes that a rendition's key lane was opened again: a key begun on the lane before it does not go on.
///
/// # Safety
/// `view` comes from [`view_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_key_lane_opened(view: *mut View, rendition: u32) {
    // SAFETY: by the contract it points to a view, and calls into a module never overlap.
    let view = unsafe { &mut *view };
    view.viewer.key_lane_opened(Rendition(u8::try_from(rendition).unwrap_or(u8::MAX)));
}

/// Whether a video picture that is decoded now is to be drawn over the picture: 1, or 0 if something newer is shown there already.
/// To be asked once.
///
/// # Safety
/// `view` comes from [`view_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_show_video(view: *mut View, serial: u32) -> u32 {
    // SAFETY: by the contract it points to a view, and calls into a module never overlap.
    let view = unsafe { &mut *view };
    view.viewer.take_awaited(serial.into()).is_some().into()
}

/// Where the report is; it stays there.
///
/// # Safety
/// `view` comes from [`view_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn view_report(view: *const View) -> *const Report {
    // SAFETY: by the contract it points to a view, and calls into a module never overlap.
    &raw const unsafe { &*view }.report
}

impl View {
    fn apply(&mut self, lane: u32) -> u32 {
        self.rects.clear();
        self.error.clear();
        let outcome = match self.take(lane) {
            Ok(Outcome::Applied { rects, .. }) => {
                self.rects.extend(rects.iter().map(|rect| [rect.x, rect.y, rect.w, rect.h]));
                outcome::APPLIED
            }
            Ok(Outcome::Held) => outcome::HELD,
            Ok(Outcome::Skipped) => outcome::SKIPPED,
            Ok(Outcome::Lost(why)) => {
                self.error = why.to_string();
                outcome::LOST
            }
            Err(why) => {
                self.error = why;
                outcome::NO_RECORD
            }
        };
        self.tell();
        outcome
    }

    fn take(&mut self, lane: u32) -> Result<Outcome, String> {
        let lane = u8::try_from(lane).ok().and_then(LaneKind::from_wire).filter(|lane| lane.is_screen());
        let lane = lane.ok_or("no screen or key lane")?;
        let parsed = Header::parse(lane, &self.input).map_err(|error| error.to_string())?;
        let (header, layout) =
            parsed.filter(|(_, layout)| layout.record_len() == self.input.len()).ok_or("no whole record")?;
        (self.report.record_seq_low, self.report.record_seq_high) = halves(header.seq);
        (self.report.record_time_low, self.report.record_time_high) = halves(header.time_us);
        self.report.record_body = layout.body_len as u32;
        Ok(self.viewer.record(&header, &self.input[layout.header_len..]))
    }

    fn tell(&mut self) {
        let (decoder, report) = (self.viewer.decoder(), &mut self.report);
        report.picture = decoder.picture().as_ptr() as u32;
        report.width = decoder.size().w.into();
        report.height = decoder.size().h.into();
        report.layout_generation = decoder.layout_generation();
        report.rects = self.rects.as_ptr() as u32;
        report.rect_count = self.rects.len() as u32;
        report.shown = 0;
        if let Some(point) = self.viewer.point() {
            report.shown = 1;
            report.rendition = point.rendition.0.into();
            report.segment = point.segment;
            (report.seq_low, report.seq_high) = halves(point.seq);
        }
        report.error = self.error.as_ptr() as u32;
        report.error_len = self.error.len() as u32;
        self.pictures = self.viewer.take_videos();
        self.videos = self.pictures.iter().map(Video::new).collect();
        report.videos = self.videos.as_ptr() as u32;
        report.video_count = self.videos.len() as u32;
        let decoder = self.viewer.decoder();
        report.regions = (0..8).filter(|&region| decoder.has_region(region)).map(|region| 1 << region).sum();
    }
}

/// JavaScript's numbers hold 53 bits, its typed arrays 32.
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
