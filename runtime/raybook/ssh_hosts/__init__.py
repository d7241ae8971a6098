"""Clusters on machines that are reached by ssh: ``raybook up`` and ``down``, and ``%ray_cluster start --ssh``.

``hosts_file`` says what is wanted, ``scripts`` what is said to a machine's shell and ``ssh_errors`` what ssh's complaints
mean; these decide and are pure. ``ssh`` runs OpenSSH's own client, ``wheel`` packs this raybook, and ``launcher`` takes all
machines through their steps side by side.
"""

from raybook.ssh_hosts.attached import AttachedHosts
from raybook.ssh_hosts.hosts_file import HostsFile, HostSpec, read_hosts, read_hosts_file
from raybook.ssh_hosts.launcher import Launcher, Outcome, Progress

__all__ = ["AttachedHosts", "HostSpec", "HostsFile", "Launcher", "Outcome", "Progress", "read_hosts", "read_hosts_file"]
