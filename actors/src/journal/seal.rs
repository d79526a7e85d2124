//! Keys and sealing: the rack's key file, one fresh key per segment wrapped by it, AES-256-GCM over every body.
//! The only file that names the cipher.

use std::io;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::disk::{Disk, read_up_to};

/// Name of the key file.
pub(super) const KEY_FILE: &str = "rack.key";
const KEY_FILE_NEW: &str = "rack.key.new";
/// Length of a key, in bytes.
pub(super) const KEY_BYTES: usize = 32;
/// Length of an authentication tag, in bytes.
pub(super) const TAG_BYTES: usize = 16;
/// Length of a nonce, in bytes.
pub(super) const NONCE_BYTES: usize = 12;

/// What was sealed does not open: another key, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seal: the tag does not fit the key and the bytes")]
pub(super) struct Unsealed;

/// A segment's key in wrapped form, as its header keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrappedKey {
    /// Drawn at random for each wrapping.
    pub nonce: [u8; NONCE_BYTES],
    /// The key, sealed.
    pub sealed: [u8; KEY_BYTES],
    /// Authenticates the sealed key and the header around it.
    pub tag: [u8; TAG_BYTES],
}

/// The rack's key: it wraps segment keys and nothing else.
pub(super) struct RackKey {
    id: [u8; 16],
    cipher: LessSafeKey,
}

impl RackKey {
    /// From the 32 bytes of the key file.
    pub(super) fn new(bytes: [u8; KEY_BYTES]) -> RackKey {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::derive_key("fluxrig journal 2026 rack key id", &bytes)[..16]);
        RackKey { id, cipher: cipher(bytes) }
    }

    /// Names the key without revealing it.
    pub(super) fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Reads the key file; `None` when there is none. `Err` with `InvalidData` when it is not 32 bytes.
    ///
    /// # Errors
    /// When the system refuses, or the file has another length.
    pub(super) fn load(disk: &dyn Disk) -> io::Result<Option<RackKey>> {
        let file = match disk.open(KEY_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let bytes = read_up_to(&*file, KEY_BYTES as u64 + 1)?;
        match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(Some(RackKey::new(bytes))),
            Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} bytes", bytes.len()))),
        }
    }

    /// Makes a key file; it is durable, name included, when this returns, since a segment whose key is lost is lost.
    ///
    /// # Errors
    /// When the system refuses or the file exists.
    pub(super) fn create(disk: &dyn Disk) -> io::Result<RackKey> {
        let mut bytes = [0; KEY_BYTES];
        disk.random(&mut bytes)?;
        // Under another name until it is whole: half a key file would be refused at the next start.
        match disk.remove(KEY_FILE_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create_new(KEY_FILE_NEW)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        disk.rename(KEY_FILE_NEW, KEY_FILE)?;
        disk.sync_dir()?;
        Ok(RackKey::new(bytes))
    }

    /// Draws a segment key and wraps it; `context` is bound to it.
    ///
    /// # Errors
    /// When the disk has no randomness.
    pub(super) fn new_segment_key(&self, disk: &dyn Disk, context: &[u8]) -> io::Result<(SegmentKey, WrappedKey)> {
        let mut nonce = [0; NONCE_BYTES];
        let mut key = [0; KEY_BYTES];
        disk.random(&mut nonce)?;
        disk.random(&mut key)?;
        let mut sealed = key;
        let tag = self
            .cipher
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| io::Error::other("a key of 32 bytes could not be wrapped"))?;
        Ok((SegmentKey::new(key), WrappedKey { nonce, sealed, tag: tag_bytes(&tag) }))
    }

    /// Opens a wrapped segment key.
    ///
    /// # Errors
    /// When the key, the context or the wrapped bytes are not those of the wrapping.
    pub(super) fn unwrap_segment_key(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<SegmentKey, Unsealed> {
        let mut key = wrapped.sealed;
        let nonce = Nonce::assume_unique_for_key(wrapped.nonce);
        self.cipher
            .open_in_place_separate_tag(nonce, Aad::from(context), Tag::from(wrapped.tag), &mut key, 0..)
            .map_err(|_| Unsealed)?;
        Ok(SegmentKey::new(key))
    }
}

/// The key of one segment. It never leaves this value; the bytes are not kept.
#[derive(Clone)]
pub(super) struct SegmentKey(LessSafeKey);

impl SegmentKey {
    fn new(bytes: [u8; KEY_BYTES]) -> SegmentKey {
        SegmentKey(cipher(bytes))
    }

    /// Seals `plain` into `sealed` of the same length. `counter` must never be used twice with this key.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(super) fn seal(&self, counter: u64, context: &[u8], plain: &[u8], sealed: &mut [u8]) -> [u8; TAG_BYTES] {
        sealed.copy_from_slice(plain);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(context), sealed)
            .expect("a body is limited far below the 64 GiB that the cipher allows");
        tag_bytes(&tag)
    }

    /// Opens what was sealed, in place. On failure the bytes are unspecified.
    ///
    /// # Errors
    /// When the key, counter, context or bytes are not those of the sealing.
    pub(super) fn open(
        &self,
        counter: u64,
        context: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Unsealed> {
        self.0
            .open_in_place_separate_tag(nonce(counter), Aad::from(context), Tag::from(*tag), bytes, 0..)
            .map(|_| ())
            .map_err(|_| Unsealed)
    }
}

fn cipher(bytes: [u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("the key has the cipher's length"))
}

fn tag_bytes(tag: &Tag) -> [u8; TAG_BYTES] {
    tag.as_ref().try_into().expect("the tag has the cipher's length")
}

// Ring's own key type counts nonces by itself; ours are offsets, which it calls less safe: see `seal`.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
