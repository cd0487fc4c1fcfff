from pairwise_rm.cli.app import main

main()
