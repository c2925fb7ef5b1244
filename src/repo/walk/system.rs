//! Calls whose flags or numbers need a word.

use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens a file to read it: no link is followed, and nothing is waited for, whatever it became.
/// Where the file is `owned`, the time of its last use is left as it is.
pub(super) fn open_file(
    folder: BorrowedFd<'_>,
    name: &[u8],
    owned: bool,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
    if owned {
        let opened = openat(folder, name, flags | OFlags::NOATIME, Mode::empty());
        if opened.as_ref().err() != Some(&Errno::PERM) {
            return opened;
        }
    }
    openat(folder, name, flags, Mode::empty())
}

/// File systems that hold what the kernel knows and no files, by the numbers of `statfs(2)`.
const VIRTUAL: [u32; 19] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0000_1cd1, // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0xf97c_ff8c, // selinux
    0x9584_58f6, // hugetlbfs
    0x1980_0202, // mqueue
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x0000_0187, // autofs
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
];

/// Whether an open folder is of such a file system.
#[allow(clippy::unnecessary_fallible_conversions, reason = "the type differs between platforms")]
pub(super) fn is_virtual(folder: impl AsFd) -> bool {
    let number = fstatfs(folder).map(|system| system.f_type);
    number.is_ok_and(|number| u32::try_from(number).is_ok_and(|number| VIRTUAL.contains(&number)))
}
