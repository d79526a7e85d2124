//! Keys and sealing: the rack's key file, one fresh key per segment wrapped by it, AES-256-GCM over every body.
//! The only file that names the cipher.

use std::io;

use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce, Tag, aead::AeadInOut, aead::inout::InOutBuf};

use super::disk::{Disk, read_up_to};

/// Name of the key file.
pub const KEY_FILE: &str = "rack.key";
/// Length of a key, in bytes.
pub const KEY_BYTES: usize = 32;
/// Length of an authentication tag, in bytes.
pub const TAG_BYTES: usize = 16;
/// Length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 12;

/// What was sealed does not open: another key, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seal: the tag does not fit the key and the bytes")]
pub struct Unsealed;

/// A segment's key in wrapped form, as its header keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Drawn at random for each wrapping.
    pub nonce: [u8; NONCE_BYTES],
    /// The key, sealed.
    pub sealed: [u8; KEY_BYTES],
    /// Authenticates the sealed key and the header around it.
    pub tag: [u8; TAG_BYTES],
}

/// The rack's key: it wraps segment keys and nothing else.
pub struct RackKey {
    id: [u8; 16],
    cipher: Aes256Gcm,
}

impl RackKey {
    /// From the 32 bytes of the key file.
    pub fn new(bytes: [u8; KEY_BYTES]) -> RackKey {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::derive_key("fluxrig journal 2026 rack key id", &bytes)[..16]);
        RackKey { id, cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(bytes)) }
    }

    /// Names the key without revealing it.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Reads the key file; `None` when there is none. `Err` with `InvalidData` when it is not 32 bytes.
    ///
    /// # Errors
    /// When the system refuses, or the file has another length.
    pub fn load(disk: &dyn Disk) -> io::Result<Option<RackKey>> {
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
    pub fn create(disk: &dyn Disk) -> io::Result<RackKey> {
        let mut bytes = [0; KEY_BYTES];
        disk.random(&mut bytes)?;
        let file = disk.create_new(KEY_FILE)?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync_data()).and_then(|()| disk.sync_dir());
        if let Err(error) = written {
            // Half a key would be refused at the next start although nothing was ever sealed under it.
            drop(disk.remove(KEY_FILE));
            return Err(error);
        }
        Ok(RackKey::new(bytes))
    }

    /// Draws a segment key and wraps it; `context` is bound to it.
    ///
    /// # Errors
    /// When the disk has no randomness.
    pub fn new_segment_key(&self, disk: &dyn Disk, context: &[u8]) -> io::Result<(SegmentKey, WrappedKey)> {
        let mut nonce = [0; NONCE_BYTES];
        let mut key = [0; KEY_BYTES];
        disk.random(&mut nonce)?;
        disk.random(&mut key)?;
        let mut sealed = key;
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), context, sealed.as_mut_slice().into())
            .map_err(|_| io::Error::other("a key of 32 bytes could not be wrapped"))?;
        Ok((SegmentKey::new(key), WrappedKey { nonce, sealed, tag: tag.into() }))
    }

    /// Opens a wrapped segment key.
    ///
    /// # Errors
    /// When the key, the context or the wrapped bytes are not those of the wrapping.
    pub fn unwrap_segment_key(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<SegmentKey, Unsealed> {
        let mut key = wrapped.sealed;
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(wrapped.nonce),
                context,
                key.as_mut_slice().into(),
                &Tag::from(wrapped.tag),
            )
            .map_err(|_| Unsealed)?;
        Ok(SegmentKey::new(key))
    }
}

/// The key of one segment. It never leaves this value; the bytes are not kept.
#[derive(Clone)]
pub struct SegmentKey(Aes256Gcm);

impl SegmentKey {
    fn new(bytes: [u8; KEY_BYTES]) -> SegmentKey {
        SegmentKey(Aes256Gcm::new(&Key::<Aes256Gcm>::from(bytes)))
    }

    /// Seals `plain` into `sealed` of the same length. `counter` must never be used twice with this key.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn seal(&self, counter: u64, context: &[u8], plain: &[u8], sealed: &mut [u8]) -> [u8; TAG_BYTES] {
        let buffer = InOutBuf::new(plain, sealed).expect("both sides have the length of the body");
        let tag = self
            .0
            .encrypt_inout_detached(&nonce(counter), context, buffer)
            .expect("a body is limited far below the 64 GiB that the cipher allows");
        tag.into()
    }

    /// Opens what was sealed, in place. On failure the bytes are unspecified.
    ///
    /// # Errors
    /// When the key, counter, context or bytes are not those of the sealing.
    pub fn open(
        &self,
        counter: u64,
        context: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Unsealed> {
        self.0
            .decrypt_inout_detached(&nonce(counter), context, bytes.into(), &Tag::from(*tag))
            .map_err(|_| Unsealed)
    }
}

fn nonce(counter: u64) -> Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize> {
    let mut bytes = [0; NONCE_BYTES];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    Nonce::from(bytes)
}
