module sluice.dev/e2e/cluster/tools/lua

go 1.26.0

// The versions that Argo CD 3.0.23 is built with.
require (
	github.com/yuin/gopher-lua v1.1.1
	layeh.com/gopher-json v0.0.0-20190114024228-97fed8db8427
)
