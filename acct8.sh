for i in 1 2 3 4 5 6; do timeout 60 node_modules/.bin/node node_modules/mocha/bin/mocha.js --exit sim-core/machine/history/thinning.test.ts 2>&1 | grep -E "seed|bytes"; done
