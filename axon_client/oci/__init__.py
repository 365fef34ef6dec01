# SPDX-License-Identifier: BUSL-1.1
"""Models in OCI registries, in ModelPack's layout.

`reference` knows which repository, tag or digest a spec means; `artifact` what a registry says
of an artifact; `layout` turns a package into one and back; `layers` brings its files. `client`
asks for manifests, tags and small blobs, with `login`, `challenge` and `docker_config` for who
asks; `upload`, `push` and `publishing` go the other way.
"""
