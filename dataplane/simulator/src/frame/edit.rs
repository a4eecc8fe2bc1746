//! Segments changed where they stand.

use super::decode::Layout;
use super::{Ends, checksum, flag, verify};

/// A TCP segment in its frame. What is set here is written at once; the checksum is made anew by
/// [`Edit::seal`].
pub(crate) struct Edit<'a> {
    frame: &'a mut [u8],
    layout: Layout,
}

const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const OPTIONS: usize = 20;

/// Where an option's value stands in the segment, and how long it is.
type Value = std::ops::Range<usize>;

impl<'a> Edit<'a> {
    /// The segment of a frame; `None` when it carries no whole one, or one whose checksum is wrong.
    pub(crate) fn of(frame: &'a mut [u8]) -> Option<Self> {
        let layout = Layout::of(frame)?;
        let is_whole = layout.protocol == 6 && layout.fragment.is_none();
        let header = frame.get(layout.transport..layout.end)?;
        let options_end = usize::from(*header.get(OFFSET)? >> 4) * 4;
        let fits = is_whole && options_end >= OPTIONS && options_end <= header.len();
        (fits && verify(frame).is_ok()).then_some(Self { frame, layout })
    }

    /// The ends, from the view of its sender.
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            source: self.layout.source,
            source_port: self.word(0),
            destination: self.layout.destination,
            destination_port: self.word(2),
        }
    }

    /// Whether all of these flags are set.
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.segment()[FLAGS] & flags == flags
    }

    /// Takes these flags away.
    pub(crate) fn clear(&mut self, flags: u8) {
        self.segment_mut()[FLAGS] &= !flags;
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.long(SEQUENCE)
    }

    pub(crate) fn acknowledgement(&self) -> u32 {
        self.long(ACKNOWLEDGEMENT)
    }

    pub(crate) fn window(&self) -> u16 {
        self.word(WINDOW)
    }

    /// One past its last sequence number.
    pub(crate) fn end(&self) -> u32 {
        let virtual_octets = u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN));
        let octets = (self.segment().len() - self.options_end()) as u32;
        self.sequence().wrapping_add(octets + virtual_octets)
    }

    pub(crate) fn set_sequence(&mut self, sequence: u32) {
        self.set_long(SEQUENCE, sequence);
    }

    pub(crate) fn set_acknowledgement(&mut self, acknowledgement: u32) {
        self.set_long(ACKNOWLEDGEMENT, acknowledgement);
    }

    pub(crate) fn set_window(&mut self, window: u16) {
        self.segment_mut()[WINDOW..WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// Its window scale.
    pub(crate) fn window_scale(&self) -> Option<u8> {
        let value = self.option(3).filter(|value| value.len() == 1)?;
        Some(self.segment()[value.start])
    }

    /// Writes another scale into its option, if it has one.
    pub(crate) fn set_window_scale(&mut self, scale: u8) {
        if let Some(value) = self.option(3).filter(|value| value.len() == 1) {
            self.segment_mut()[value.start] = scale;
        }
    }

    /// Its timestamps: value and echo.
    pub(crate) fn timestamps(&self) -> Option<(u32, u32)> {
        let value = self.option(8).filter(|value| value.len() == 8)?;
        Some((self.long(value.start), self.long(value.start + 4)))
    }

    /// Writes another value into its timestamps, if it has any.
    pub(crate) fn set_timestamp(&mut self, stamp: u32) {
        if let Some(value) = self.option(8).filter(|value| value.len() == 8) {
            self.set_long(value.start, stamp);
        }
    }

    /// Adds to every number of its SACK blocks.
    pub(crate) fn shift_sack(&mut self, by: u32) {
        let Some(value) = self.option(5).filter(|value| value.len() % 8 == 0) else {
            return;
        };
        for at in value.step_by(4) {
            let shifted = self.long(at).wrapping_add(by);
            self.set_long(at, shifted);
        }
    }

    /// Makes the checksum right again.
    pub(crate) fn seal(mut self) {
        let (source, destination) = (self.layout.source, self.layout.destination);
        let segment = self.segment_mut();
        segment[CHECKSUM..CHECKSUM + 2].fill(0);
        let pseudo = checksum::pseudo_header(source, destination, 6, segment.len());
        let total = checksum::checksum(segment, pseudo);
        segment[CHECKSUM..CHECKSUM + 2].copy_from_slice(&total.to_be_bytes());
    }

    fn segment(&self) -> &[u8] {
        &self.frame[self.layout.transport..self.layout.end]
    }

    fn segment_mut(&mut self) -> &mut [u8] {
        &mut self.frame[self.layout.transport..self.layout.end]
    }

    fn options_end(&self) -> usize {
        usize::from(self.segment()[OFFSET] >> 4) * 4
    }

    /// Where the first option of this kind has its value.
    fn option(&self, kind: u8) -> Option<Value> {
        let (segment, end) = (self.segment(), self.options_end());
        let mut at = OPTIONS;
        while at < end {
            let length = match segment[at] {
                0 => return None,
                1 => 1,
                _ => usize::from(*segment.get(at + 1)?),
            };
            if segment[at] > 1 && (length < 2 || at + length > end) {
                return None;
            }
            if segment[at] == kind {
                return Some(at + 2..at + length);
            }
            at += length;
        }
        None
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.segment()[at], self.segment()[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) << 16 | u32::from(self.word(at + 2))
    }

    fn set_long(&mut self, at: usize, number: u32) {
        self.segment_mut()[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
}
