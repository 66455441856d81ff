//! Pixels through desktop duplication (DXGI 1.2): the graphics card's own copy of a monitor, with what changed.
//!
//! It ends when the mode changes, when the system shows a screen of its own, and when a program takes the monitor for itself;
//! whoever uses it then begins a new one, or goes on with GDI.

use std::io;

use windows::Win32::Foundation::{HMODULE, RECT};
use windows::Win32::Graphics::Direct3D::D3D_DRIVER_TYPE_UNKNOWN;
use windows::Win32::Graphics::Direct3D11::{
    D3D11_CPU_ACCESS_READ, D3D11_CREATE_DEVICE_FLAG, D3D11_MAP_READ, D3D11_MAPPED_SUBRESOURCE,
    D3D11_SDK_VERSION, D3D11_TEXTURE2D_DESC, D3D11_USAGE_STAGING, D3D11CreateDevice, ID3D11Device,
    ID3D11DeviceContext, ID3D11Texture2D,
};
use windows::Win32::Graphics::Dxgi::Common::{DXGI_FORMAT_B8G8R8A8_UNORM, DXGI_SAMPLE_DESC};
use windows::Win32::Graphics::Dxgi::{
    CreateDXGIFactory1, DXGI_ERROR_NOT_FOUND, DXGI_ERROR_UNSUPPORTED, DXGI_ERROR_WAIT_TIMEOUT,
    DXGI_OUTDUPL_FRAME_INFO, DXGI_OUTDUPL_MOVE_RECT, IDXGIAdapter1, IDXGIFactory1, IDXGIOutput1,
    IDXGIOutputDuplication, IDXGIResource,
};
use windows::core::{Interface, Result};

use crate::layout::Damage;
use crate::{Display, Rect, Rotation};

/// More rectangles than this are not asked for one by one.
const RECTS_MAX: usize = 1024;

/// One monitor's pixels, and where they come from.
#[derive(Debug)]
pub(super) struct Duplication {
    context: ID3D11DeviceContext,
    source: IDXGIOutputDuplication,
    /// A texture that the processor can read.
    staging: ID3D11Texture2D,
    size: (u16, u16),
    pixels: Vec<u8>,
    begun: bool,
}

impl Duplication {
    /// Of an upright monitor: the pixels of others come as they lie in the graphics card.
    pub(super) fn new(display: &Display) -> Result<Self> {
        if display.rotation != Rotation::None {
            return Err(DXGI_ERROR_UNSUPPORTED.into());
        }
        let (adapter, output) = find(&display.name)?;
        let (device, context) = device(&adapter)?;
        // SAFETY: the device is of the output's own adapter.
        let source = unsafe { output.DuplicateOutput(&device)? };
        // SAFETY: without conditions.
        let mode = unsafe { source.GetDesc() }.ModeDesc;
        let (width, height) = display.size;
        if mode.Format != DXGI_FORMAT_B8G8R8A8_UNORM
            || (mode.Width, mode.Height) != (width.into(), height.into())
        {
            return Err(DXGI_ERROR_UNSUPPORTED.into());
        }
        let staging = staging(&device, display.size)?;
        let pixels = vec![0; usize::from(width) * usize::from(height) * 4];
        Ok(Self { context, source, staging, size: display.size, pixels, begun: false })
    }

    /// Takes over what changed since the last look, and adds it to the damage.
    ///
    /// # Errors
    /// When the duplication has ended.
    pub(super) fn look(&mut self, damage: &mut Damage) -> io::Result<()> {
        let (mut about, mut frame) = (DXGI_OUTDUPL_FRAME_INFO::default(), None);
        // SAFETY: both places can be written to; what is acquired is released below.
        match unsafe { self.source.AcquireNextFrame(0, &raw mut about, &raw mut frame) } {
            Err(error) if error.code() == DXGI_ERROR_WAIT_TIMEOUT => return Ok(()),
            acquired => acquired?,
        }
        // Without a time only the pointer has moved.
        let taken = match about.LastPresentTime {
            0 if self.begun => Ok(()),
            _ => self.take(&about, frame.as_ref(), damage),
        };
        // SAFETY: acquired above.
        let released = unsafe { self.source.ReleaseFrame() };
        Ok(taken.and(released)?)
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.begun.then_some(&*self.pixels)
    }

    fn take(
        &mut self,
        about: &DXGI_OUTDUPL_FRAME_INFO,
        frame: Option<&IDXGIResource>,
        damage: &mut Damage,
    ) -> Result<()> {
        let texture: ID3D11Texture2D = frame.ok_or(DXGI_ERROR_NOT_FOUND)?.cast()?;
        let rects = match self.begun {
            true => self.changed(about)?,
            false => vec![Rect::whole(self.size)],
        };
        // SAFETY: both textures are of the same device, size and format. The map is ended before the next copy.
        unsafe { self.context.CopyResource(&self.staging, &texture) };
        let mut mapped = D3D11_MAPPED_SUBRESOURCE::default();
        // SAFETY: the staging texture was made to be read by the processor.
        unsafe { self.context.Map(&self.staging, 0, D3D11_MAP_READ, 0, Some(&raw mut mapped))? };
        for rect in rects {
            self.copy(rect, mapped.pData.cast(), mapped.RowPitch as usize);
            damage.add(rect);
        }
        // SAFETY: mapped above, and not read any more.
        unsafe { self.context.Unmap(&self.staging, 0) };
        self.begun = true;
        Ok(())
    }

    /// The rectangles that were drawn, and those to which others were moved.
    fn changed(&self, about: &DXGI_OUTDUPL_FRAME_INFO) -> Result<Vec<Rect>> {
        if about.TotalMetadataBufferSize as usize > RECTS_MAX * size_of::<RECT>() {
            return Ok(vec![Rect::whole(self.size)]);
        }
        let (mut drawn, mut moved) =
            ([RECT::default(); RECTS_MAX], [DXGI_OUTDUPL_MOVE_RECT::default(); RECTS_MAX]);
        let (mut drawn_bytes, mut moved_bytes) = (0, 0);
        // SAFETY: the lengths given are those of the buffers.
        unsafe {
            let (room, place) = (size_of_val(&moved) as u32, moved.as_mut_ptr());
            self.source.GetFrameMoveRects(room, place, &raw mut moved_bytes)?;
            let (room, place) = (size_of_val(&drawn) as u32, drawn.as_mut_ptr());
            self.source.GetFrameDirtyRects(room, place, &raw mut drawn_bytes)?;
        }
        let moved = moved.iter().take(moved_bytes as usize / size_of::<DXGI_OUTDUPL_MOVE_RECT>());
        let drawn = drawn.iter().take(drawn_bytes as usize / size_of::<RECT>());
        let all = moved.map(|moved| &moved.DestinationRect).chain(drawn);
        Ok(all.filter_map(|r| Rect::clipped(r.left, r.top, r.right, r.bottom, self.size)).collect())
    }

    /// Copies a rectangle of the mapped texture.
    fn copy(&mut self, rect: Rect, mapped: *const u8, pitch: usize) {
        let stride = usize::from(self.size.0) * 4;
        let (left, length) = (usize::from(rect.x) * 4, usize::from(rect.width) * 4);
        for y in usize::from(rect.y)..usize::from(rect.y + rect.height) {
            // SAFETY: the rectangle lies within the texture, whose rows are `pitch` bytes apart while it is mapped.
            let row = unsafe { std::slice::from_raw_parts(mapped.add(y * pitch + left), length) };
            self.pixels[y * stride + left..][..length].copy_from_slice(row);
        }
    }
}

/// The output of this name, and the adapter that it belongs to.
fn find(name: &str) -> Result<(IDXGIAdapter1, IDXGIOutput1)> {
    // SAFETY: without conditions.
    let factory: IDXGIFactory1 = unsafe { CreateDXGIFactory1()? };
    for number in 0.. {
        // SAFETY: without conditions. Beyond the last adapter it fails, which ends the search.
        let adapter = unsafe { factory.EnumAdapters1(number)? };
        // SAFETY: without conditions.
        let outputs = (0..).map_while(|number| unsafe { adapter.EnumOutputs(number) }.ok());
        for output in outputs {
            // SAFETY: without conditions.
            let about = unsafe { output.GetDesc()? };
            let device = String::from_utf16_lossy(&about.DeviceName);
            if device.trim_end_matches('\0').trim_start_matches(r"\\.\") == name {
                return Ok((adapter, output.cast()?));
            }
        }
    }
    Err(DXGI_ERROR_NOT_FOUND.into())
}

fn device(adapter: &IDXGIAdapter1) -> Result<(ID3D11Device, ID3D11DeviceContext)> {
    let (mut device, mut context) = (None, None);
    // SAFETY: with an adapter there is no driver type and no module; both places can be written to.
    unsafe {
        D3D11CreateDevice(
            adapter,
            D3D_DRIVER_TYPE_UNKNOWN,
            HMODULE::default(),
            D3D11_CREATE_DEVICE_FLAG(0),
            None,
            D3D11_SDK_VERSION,
            Some(&raw mut device),
            None,
            Some(&raw mut context),
        )?;
    }
    device.zip(context).ok_or_else(|| DXGI_ERROR_NOT_FOUND.into())
}

fn staging(device: &ID3D11Device, (width, height): (u16, u16)) -> Result<ID3D11Texture2D> {
    let description = D3D11_TEXTURE2D_DESC {
        Width: width.into(),
        Height: height.into(),
        MipLevels: 1,
        ArraySize: 1,
        Format: DXGI_FORMAT_B8G8R8A8_UNORM,
        SampleDesc: DXGI_SAMPLE_DESC { Count: 1, Quality: 0 },
        Usage: D3D11_USAGE_STAGING,
        CPUAccessFlags: D3D11_CPU_ACCESS_READ.0 as u32,
        ..D3D11_TEXTURE2D_DESC::default()
    };
    let mut texture = None;
    // SAFETY: the description lives during the call, and the place can be written to.
    unsafe { device.CreateTexture2D(&raw const description, None, Some(&raw mut texture))? };
    texture.ok_or_else(|| DXGI_ERROR_NOT_FOUND.into())
}
