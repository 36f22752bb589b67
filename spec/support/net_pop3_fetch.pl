# Fetches and deletes a maildrop: PORT OUT.  Message n goes to OUT/n.
use strict;
use warnings;
use Net::POP3;

my ($port, $out) = @ARGV;
my $pop = Net::POP3->new("127.0.0.1", Port => $port, Timeout => 60) or die "connect: $@\n";
my $count = $pop->login("joe", "secret");
die "login: ", $pop->message unless defined $count;
for my $n (1 .. $count) {
    open my $file, ">:raw", "$out/$n" or die "$out/$n: $!\n";
    $pop->get($n, $file) or die "RETR $n: ", $pop->message;
    close $file or die "$out/$n: $!\n";
    $pop->delete($n) or die "DELE $n: ", $pop->message;
}
$pop->quit or die "QUIT: ", $pop->message;
