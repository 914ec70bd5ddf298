//! Programs that an image is made with.

use crate::debian::Program;

/// All of them, with Debian's packages.
pub const NEEDED: [Program; 16] = [
    Program { name: "mmdebstrap", package: "mmdebstrap" },
    Program {
        name: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
    },
    Program { name: "newuidmap", package: "uidmap" },
    Program { name: "tar", package: "tar" },
    Program { name: "systemd-sysusers", package: "systemd" },
    Program { name: "systemctl", package: "systemd" },
    Program { name: "/usr/sbin/depmod", package: "kmod" },
    Program { name: "cpio", package: "cpio" },
    Program { name: "mksquashfs", package: "squashfs-tools" },
    Program { name: "/usr/sbin/veritysetup", package: "cryptsetup-bin" },
    Program { name: "mkimage", package: "u-boot-tools" },
    Program { name: "genimage", package: "genimage" },
    Program { name: "/usr/sbin/mkfs.vfat", package: "dosfstools" },
    Program { name: "mcopy", package: "mtools" },
    Program { name: "/usr/sbin/mke2fs", package: "e2fsprogs" },
    Program { name: "aarch64-linux-gnu-objcopy", package: "binutils-aarch64-linux-gnu" },
];
