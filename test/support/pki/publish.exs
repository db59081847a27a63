# Run by bin/test --pki when all of it is over: the file with what came of it.
[file] = System.argv()
Cryptoki.Test.PKI.Report.publish(file)
