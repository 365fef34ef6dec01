# SPDX-License-Identifier: BUSL-1.1
"""Models in OCI registries, in ModelPack's layout.

reference   which registry, repository, tag or digest a spec means
layout      a package as an artifact, and back
challenge, login, docker_config   who asks
client      manifests, tags and small blobs of one repository
upload, push   the way there
"""
